"""The one way in for JSON from files and arguments: bounded, typed, refused in one line.

A record is described by a type (a `msgspec.Struct`, a dataclass such as `kseg.Spec`, `dict[str, float]` ...);
what comes back has it. Nothing else in kseg calls a JSON parser on what it did not just write itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from kseg.errors import ArtefactError, DataError, KsegError
from kseg.text import printable

MAX_BYTES = 64 * 2**20
# PyYAML reads a megabyte in a second where it is one text, and in half a minute where it is a list.
MAX_YAML_BYTES = 2**17
YAML_SUFFIXES = (".yaml", ".yml")
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1

# Ranges that many records share.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Text = Annotated[str, msgspec.Meta(max_length=2**16)]

_BOM = b"\xef\xbb\xbf"
_AT = re.compile(r" - at (?:`key(?: in)?` in )?`(?P<path>\$.*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_TYPES = re.compile(r"`(?P<names>[a-z]+(?: \| [a-z]+)*)`")
_PLAIN = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the records that kseg reads: named fields, checked types; unknown fields are passed over."""


def read(
    path: str | Path,
    kind: type[T],
    *,
    error: type[KsegError] = DataError,
    remedy: str = "",
    max_bytes: int = MAX_BYTES,
) -> T:
    """Read a JSON file as a `kind`; a file that ends in `.yaml` or `.yml` is read as YAML.

    Args:
        path: the file, UTF-8, with or without a byte-order mark.
        kind: type of the result.
        error: what to raise.
        remedy: last sentence of the message: what to do.
        max_bytes: size of the file above which it is not read at all.

    Raises:
        KsegError: `error`, if the file cannot be read, is too large, is no JSON or is no `kind`: the message
            names file, field, what was found and what was expected.
    """
    is_yaml = Path(path).suffix.lower() in YAML_SUFFIXES
    most = min(max_bytes, MAX_YAML_BYTES) if is_yaml else max_bytes
    raw = content(path, error=error, remedy=remedy, max_bytes=most)
    where = f"'{printable(Path(path))}'"
    if is_yaml:
        from kseg.yaml_to_json import to_json

        try:
            raw = to_json(raw)
        except ValueError as failure:
            raise error(f"{where} is not valid YAML: {failure}{_sentence(remedy)}") from failure
    return parse(raw, kind, where=where, error=error, remedy=remedy)


def content(
    path: str | Path, *, error: type[KsegError] = DataError, remedy: str = "", max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the bytes of a regular file; arguments and errors as in `read`."""
    file = Path(path)
    try:
        if not file.is_file():
            # A FIFO or a device would be waited for, for ever.
            raise error(
                f"'{printable(file)}' {'is no regular file' if file.exists() else 'does not exist'}"
                f"{_sentence(remedy)}"
            )
        size = file.stat().st_size
        if size > max_bytes:
            raise error(
                f"'{printable(file)}' has {size:,} bytes; at most {max_bytes:,} are read{_sentence(remedy)}"
            )
        return file.read_bytes()
    except (OSError, ValueError) as failure:
        if isinstance(failure, KsegError):
            raise
        reason = getattr(failure, "strerror", None) or failure
        raise error(f"'{printable(file)}' cannot be read: {reason}{_sentence(remedy)}") from failure


def parse(
    content: bytes | str,
    kind: type[T],
    *,
    where: str,
    error: type[KsegError] = DataError,
    remedy: str = "",
    max_bytes: int = MAX_BYTES,
) -> T:
    """Return the `kind` that JSON text holds. `where` names it in messages; the rest is as in `read`."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > max_bytes:
        raise error(f"{where} has {len(raw):,} bytes; at most {max_bytes:,} are read{_sentence(remedy)}")
    raw = raw.removeprefix(_BOM)
    try:
        found = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as failure:
        raise error(_told(failure, where, lambda: msgspec.json.decode(raw), remedy)) from failure
    except (msgspec.DecodeError, UnicodeError) as failure:
        raise error(f"{where} is not valid JSON: {failure}{_sentence(remedy)}") from failure
    except RecursionError as failure:
        raise error(
            f"{where} is nested too deep (at most {MAX_DEPTH} levels){_sentence(remedy)}"
        ) from failure
    _check_bounds(found, where, error, remedy)
    return found


def each(items: Iterable[bytes | msgspec.Raw], kind: Any) -> Iterator[tuple[Any, str]]:
    """Read JSON texts one by one, so that one bad record does not hide the others.

    Numbers may stand in quotes, whole ones with `.0`. `kind` must have no free-form field (`Any`): depth and
    digits are bounded by its types.

    Yields:
        the record and "", or None and what is wrong with it: field, expected, received.
    """
    decoder = msgspec.json.Decoder(kind, strict=False)
    for item in items:
        try:
            yield decoder.decode(item), ""
        except msgspec.ValidationError as failure:
            yield None, _told(failure, "", lambda item=item: msgspec.json.decode(item), "").removeprefix(": ")
        except (msgspec.DecodeError, UnicodeError, RecursionError) as failure:
            yield None, f"is not valid JSON: {printable(failure, 200)}"


def convert(
    value: Any, kind: type[T], *, where: str, error: type[KsegError] = ArtefactError, remedy: str = ""
) -> T:
    """Return values that were read already (dicts, lists, numbers) as a `kind`; arguments as in `parse`."""
    _check_bounds(value, where, error, remedy)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as failure:
        raise error(_told(failure, where, lambda: value, remedy)) from failure


def _sentence(remedy: str) -> str:
    return f". {remedy}" if remedy else ""


def _told(failure: msgspec.ValidationError, where: str, values: Any, remedy: str) -> str:
    """Turn msgspec's message into ours: where, field, expected, received."""
    text = str(failure)
    match = _AT.search(text)
    if match is None:
        path, problem = "$", text
    else:
        path, problem = match["path"], text[: match.start()]
    problem = _TYPES.sub(_plainly, problem).replace(", got ", ", found ")
    if problem[:9] in ("Expected ", "Object co", "Object mi"):
        problem = problem[0].lower() + problem[1:]
    field = path.removeprefix("$").removeprefix(".")
    subject = f"field `{printable(field, 120)}`: " if field else ""
    received = None if "missing required" in problem else _at(path, values)
    ending = f". Received: {printable(repr(received), 60)}" if received is not None else ""
    return f"{where}: {subject}{printable(problem, 400)}{ending}{_sentence(remedy)}"


def _plainly(types: re.Match[str]) -> str:
    """Return msgspec's names of types, such as `int | null`, in words."""
    names = types["names"].split(" | ")
    if "float" in names:
        names = [name for name in names if name != "int"]
    if not set(names) <= _PLAIN.keys():
        return types[0]
    return " or ".join(_PLAIN[name] for name in names)


def _at(path: str, values: Any) -> Any:
    """Follow msgspec's path; None where it leads through a mapping's unnamed key."""
    try:
        value = values()
        for step in _STEP.finditer(path):
            if step["any"]:
                return None
            value = value[step["key"] if step["key"] is not None else int(step["index"])]
    except (msgspec.DecodeError, UnicodeError, LookupError, TypeError, RecursionError):
        return None
    return None if isinstance(value, dict | list) else value


def _check_bounds(value: Any, where: str, error: type[KsegError], remedy: str) -> None:
    """Refuse what only free-form fields can hold: depth that our code could not walk, endless integers."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise error(f"{where} is nested too deep (at most {MAX_DEPTH} levels){_sentence(remedy)}")
        below: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            elif isinstance(item, msgspec.Struct):
                below.extend(getattr(item, name) for name in item.__struct_fields__)
            elif dataclasses.is_dataclass(item) and not isinstance(item, type):
                below.extend(getattr(item, field.name) for field in dataclasses.fields(item))
            elif isinstance(item, int) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise error(f"{where} holds an integer beyond 63 bits{_sentence(remedy)}")
        level, depth = below, depth + 1
