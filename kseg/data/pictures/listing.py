"""The files of a data folder: which are images, and which nobody could read."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kseg.data.pictures.images import IMAGE_SUFFIXES
from kseg.text import printable

_SHOWN = 3
_told: set[str] = set()


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    Attributes:
        files: image files in order of their paths. A link to nothing is among them: reading it says so.
        special: pipes, sockets and devices with the name of an image; reading them would wait for ever.
    """

    files: tuple[Path, ...]
    special: tuple[Path, ...]


def images(folder: Path) -> Listing:
    """List the image files of a folder and its subfolders; what is hidden (`.name`) is left out."""
    files, special = [], []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG
        if stat.S_ISREG(mode):
            files.append(path)
        elif not stat.S_ISDIR(mode):
            special.append(path)
    return Listing(tuple(files), tuple(special))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without the hidden ones."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def special_line(paths: Sequence[Path]) -> str:
    """Say which special files are left out."""
    shown = ", ".join(f"'{printable(path)}'" for path in paths[:_SHOWN])
    return f"{shown}{', …' if len(paths) > _SHOWN else ''}: no regular file, left out"


def tell_once(line: str) -> None:
    """Print one line to stderr, once per process: a folder may be opened several times."""
    if line not in _told:
        _told.add(line)
        print(f"kseg: {line}", file=sys.stderr, flush=True)
