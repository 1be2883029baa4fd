"""How long work is shown: by lines, or by a loop that is wrapped. Every room takes the one or the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from kseg.text import printable

# Prints one line.
Say = Callable[[str], None]

T = TypeVar("T")


class Progress(Protocol):
    """Wraps a loop to show how far it is: gives `items` one by one.

    Args:
        items: what is looped over.
        total: how many they are; None: not known.
        text: what is done with them.
    """

    def __call__(self, items: Iterable[T], total: int | None, text: str, /) -> Iterable[T]: ...


def silent(items: Iterable[T], total: int | None = None, text: str = "", /) -> Iterable[T]:
    """Show nothing."""
    return items


def said(say: Say, every: int) -> Progress:
    """Return a `Progress` that says now and then, at the first item and each `every`-th, how far it is."""

    def shown(items: Iterable[T], total: int | None, text: str, /) -> Iterator[T]:
        for index, item in enumerate(items):
            if index % every == 0:
                say(f"{text}: image {index + 1} of {total}")
            yield item

    return shown


def to_stderr(line: str) -> None:
    """Print one line where it does not mix with results."""
    print(printable(line), file=sys.stderr, flush=True)
