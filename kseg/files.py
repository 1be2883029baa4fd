"""Whole files or none: everything kseg writes goes to a temporary name first and is then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_TEMPORARY = ".kseg-{pid}-{name}"
_STALE = re.compile(r"^\.kseg-(\d+)-")


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


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    The block writes a file (or makes a folder) at the path it is given. If the block raises,
    Ctrl-C included, the temporary is removed and whatever stood at `path` stays untouched. The
    temporary keeps the suffix of `path`, because Keras and others choose a format by it.

    Raises:
        OSError: from the file system, for example when the disk is full; its `filename` is `path`, not
            the temporary. A folder that cannot be written to is refused before the block runs.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "The folder cannot be written to", str(target.parent))
    _remove_stale(target.parent)
    temporary = target.parent / _TEMPORARY.format(pid=os.getpid(), name=target.name)
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
        if isinstance(error, OSError) and error.filename in (None, str(temporary), temporary):
            error.filename = str(target)
        raise


def final_name(path: str | os.PathLike[str]) -> str:
    """Return the file name that `path` has or, if it is a temporary of `atomic`, will have."""
    return _STALE.sub("", Path(path).name)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any] | list[Any]) -> None:
    """Write indented JSON (UTF-8, NaN refused) to `path` atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
