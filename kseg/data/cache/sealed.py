"""A folder with checksums: whether it is still what was written."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from kseg import files, records
from kseg.errors import DataError
from kseg.records import Count, Record

SEAL = "checksums.json"
_BLOCK = 2**20


class _Entry(Record, frozen=True):
    bytes: Count
    mtime_ns: int
    blake2b: str


class _Seal(Record, frozen=True):
    files: dict[str, _Entry]


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def seal(folder: Path) -> None:
    """Write size, time and digest of every file of a finished folder into its `checksums.json`."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            stat = path.stat()
            entries[path.relative_to(folder).as_posix()] = {
                "bytes": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "blake2b": _digest(path),
            }
    files.write_json(folder / SEAL, {"files": entries})


def damage(folder: Path, thorough: bool = False) -> str:
    """Return what is wrong with a sealed folder, or "".

    Args:
        folder: the folder.
        thorough: compute every digest. Else a file of unchanged size and time counts as unchanged, so that
            opening a large set does not read all of it.
    """
    if not (folder / SEAL).is_file():
        return "it has no checksums"
    try:
        entries = records.read(folder / SEAL, _Seal).files
        touched = False
        for name, entry in entries.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            stat = path.stat()
            if stat.st_size != entry.bytes:
                return f"{name} has {stat.st_size:,} bytes in place of {entry.bytes:,}"
            if thorough or stat.st_mtime_ns != entry.mtime_ns:
                touched |= stat.st_mtime_ns != entry.mtime_ns
                if _digest(path) != entry.blake2b:
                    return f"{name} has another checksum"
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror or error}"
    if touched:
        # Copied, not changed: the next one need not read it again. A cache that is read-only stays as it is.
        with contextlib.suppress(OSError):
            seal(folder)
    return ""
