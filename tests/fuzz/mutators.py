"""Ways to spoil a file: bytes, JSON structure, members of archives whose checksums are right again.

Each takes a `random.Random`, so that a case is made again from its seed.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

Spoil = Callable[[bytes, random.Random], bytes]

# What a careless reader trips over.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    3,
    255,
    65_536,
    10**9,
    2**63 - 1,
    -(2**63),
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "..",
    "/etc/passwd",
    "\x1b[31m\n\u202e",
    "\ud7ff\u0000",
    "n" * 3000,
    [],
    [[]],
    [1, "two", None],
    {},
    {"a": {"b": []}},
    {"class_name": "Lambda", "config": {}},
)
# What JSON's grammar or a parser's limits are tried with.
ODD_TEXT = (
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "[" * 200 + "]" * 200,
    "[" * 50_000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    '"\\ud800"',
    '"unended',
    "'single'",
    "",
)


def flip(content: bytes, rng: random.Random) -> bytes:
    """Change one to eight bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """Keep the beginning, or lose a piece of the middle."""
    first, second = sorted(rng.randrange(len(content)) for _ in range(2))
    return content[:first] + (content[second:] if rng.random() < 0.5 else b"")


def double(content: bytes, rng: random.Random) -> bytes:
    """Write a piece twice, or insert noise."""
    first, second = sorted(rng.randrange(len(content)) for _ in range(2))
    piece = content[first:second] if rng.random() < 0.5 else rng.randbytes(rng.randint(1, 64))
    return content[:second] + piece[:4096] + content[second:]


def set_number(content: bytes, rng: random.Random) -> bytes:
    """Overwrite 1, 2, 4 or 8 bytes with an extreme number: lengths, offsets and counts."""
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1))
    at = rng.randrange(max(len(content) - size, 1))
    return content[:at] + number.to_bytes(size, "little") + content[at + size :]


BYTES: tuple[Spoil, ...] = (flip, cut, double, set_number)


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Apply one of `BYTES`; an empty file stays empty."""
    return rng.choice(BYTES)(content, rng) if content else content


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*at, key))
    return found


def spoil_value(value: Any, rng: random.Random) -> Any:
    """Return JSON values with one or two places replaced, removed, renamed or repeated."""
    changed = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        places = _places(changed)
        if not places:
            return rng.choice(ODD)
        *way, last = rng.choice(places)
        parent = changed
        for key in way:
            parent = parent[key]
        action = rng.random()
        if action < 0.6:
            parent[last] = rng.choice(ODD)
        elif action < 0.75:
            del parent[last]
        elif isinstance(parent, list):
            parent[last:last] = [parent[last]] * rng.choice((1, 2, 50))
        else:
            parent[rng.choice(("x", "", "name", "config", "\n"))] = parent.pop(last)
    return changed


def spoil_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON text of which structure or grammar is wrong; of what is no JSON any more, other bytes."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return spoil_bytes(content, rng)
    if rng.random() < 0.8:
        return json.dumps(spoil_value(value, rng)).encode()
    mark = "\u2603here"
    places = _places(value)
    if not places:
        return rng.choice(ODD_TEXT).encode()
    *way, last = rng.choice(places)
    parent = value
    for key in way:
        parent = parent[key]
    parent[last] = mark
    return json.dumps(value, ensure_ascii=False).replace(f'"{mark}"', rng.choice(ODD_TEXT)).encode()


def members(content: bytes) -> dict[str, bytes]:
    """Return the members of a zip archive, also of one behind other bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes], *, before: bytes = b"", packed: bool = False) -> bytes:
    """Return a zip archive of `parts` behind `before`, all its checksums right."""
    whole = io.BytesIO(before)
    whole.seek(0, io.SEEK_END)
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(whole, "a", method) as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part, method)
    return whole.getvalue()


def with_member(content: bytes, name: str, spoil: Spoil, rng: random.Random, *, before: bytes = b"") -> bytes:
    """Return the archive with one member spoiled and sealed again."""
    parts = members(content)
    parts[name] = spoil(parts[name], rng)
    return zipped(parts, before=before, packed=rng.random() < 0.2)
