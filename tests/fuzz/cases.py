"""One kind of case: how the number of a case becomes something spoiled, and what may come of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kseg.errors import KsegError
from kseg.text import printable

LONGEST_LINE = 2500


class WrongResult(AssertionError):
    """Something was read, and what came out is not what was put in."""


class Skipped(Exception):
    """This machine cannot do it; the message says why."""


@dataclass
class Place:
    """Where the cases of one kind run.

    Args:
        folder: theirs alone.
        seeds: a good file of every kind.
        kept: what the kind keeps from case to case.
    """

    folder: Path
    seeds: dict[str, bytes]
    kept: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` gave the first time."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Args:
        name: of the row.
        make: what is spoiled for a case of this number: the content of a file, a text; or just the number.
        run: reads it; returns "read" or "refused", or raises: `WrongResult`, `Skipped`, all else a fault.
        file: name under which a failed case's content is kept.
        share: cases, relative to the other kinds.
        seconds: one case may take.
        whole: "share" is a number of cases, however many the campaign has.
    """

    name: str
    make: Callable[[dict[str, bytes], int], bytes]
    run: Callable[[bytes, Place], str]
    file: str = "input"
    share: float = 1.0
    seconds: float = 20.0
    whole: bool = False


def number_of(seeds: dict[str, bytes], number: int) -> bytes:
    """What `make` is where `run` spoils something in place: the number says it all."""
    return str(number).encode()


def rng_of(kind: str, number: int | bytes) -> random.Random:
    return random.Random(f"{kind} {int(number)}")


def outcome(act: Callable[[], Any]) -> tuple[str, Any]:
    """Return "read" and what `act` gave, or "refused" and the message, which must be one printable line."""
    try:
        return "read", act()
    except KsegError as error:
        text = str(error)
        assert printable(text) == text, text
        assert len(text) < LONGEST_LINE, text
        return "refused", text


def renew(source: Path, target: Path) -> Path:
    """Make `target` a fresh copy of the folder `source`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
