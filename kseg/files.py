"""Whole files or none: everything kseg writes goes to a temporary name first and is then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kseg.errors import DataError
from kseg.text import encodable, printable

_STALE = re.compile(r"^\.kseg-(\d+)-")
# Bytes that a temporary's name may have whatever the target's is called; every file system takes as many.
_SHORT_NAME = 100
_LONGEST_SUFFIX = 20

# Temporaries that are being written -> the names that their users know.
_targets: dict[Path, Path] = {}


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return a path as the file system knows it: absolute, `~` written out, links followed.

    Raises:
        DataError: if it cannot be followed: a loop of links, a NUL in it.
    """
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"'{printable(path)}' is no path that can be followed: {printable(error)}") from error


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    """Delete temporaries that a killed process left behind in `folder`."""
    for entry in folder.iterdir():
        match = _STALE.match(entry.name)
        if match and not _is_running(int(match.group(1))):
            with contextlib.suppress(FileNotFoundError):
                _remove(entry)


def _temporary_name(name: str) -> str:
    """Return a name beside `name` that is not longer than it (or short) and has its suffix."""
    plain = f".kseg-{os.getpid()}-{name}"
    if len(os.fsencode(plain)) <= _SHORT_NAME:
        return plain
    suffix = Path(name).suffix
    kept = suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""
    return f".kseg-{os.getpid()}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{kept}"


def _name_target(error: BaseException, temporary: Path, target: Path) -> None:
    """Let an error speak of the file that the user asked for, not of the temporary."""

    def renamed(value: Any) -> Any:
        if isinstance(value, str | os.PathLike):
            return os.fspath(value).replace(str(temporary), str(target)).replace(temporary.name, target.name)
        return value

    if isinstance(error, OSError) and error.errno is not None:
        error.filename = str(target) if error.filename is None else renamed(error.filename)
        error.filename2 = None
    if error.args and all(isinstance(value, str) for value in error.args):
        error.args = tuple(renamed(value) for value in error.args)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    The block writes a file (or makes a folder) at the path it is given. If the block raises,
    Ctrl-C included, the temporary is removed and whatever stood at `path` stays untouched. The
    temporary keeps the suffix of `path`, because Keras and others choose a format by it. Errors that leave
    the block name `path`, not the temporary.

    Raises:
        OSError: from the file system, for example when the disk is full. A folder that cannot be written to
            is refused before the block runs.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "The folder cannot be written to", str(target.parent))
    _remove_stale(target.parent)
    temporary = target.parent / _temporary_name(target.name)
    _targets[temporary] = target
    try:
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        elif target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            _remove(temporary)
        _name_target(error, temporary, target)
        raise
    finally:
        _targets.pop(temporary, None)


def final_name(path: str | os.PathLike[str]) -> str:
    """Return the file name that `path` has or, if it is a temporary of `atomic`, will have."""
    return _targets.get(Path(path), Path(path)).name


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any] | list[Any]) -> None:
    """Write indented JSON (UTF-8, NaN refused) to `path` atomically."""
    write_text(path, encodable(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n")
