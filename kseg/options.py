"""Options: how an argument is declared for Python and the command line, and how words are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kseg.checks import Range
from kseg.errors import UsageError
from kseg.text import printable


@dataclass(frozen=True)
class Option:
    """What one argument means, what it may be, and how the command line takes it.

    Args:
        text: its meaning; names of arguments stand in backticks, and become options in the command's help.
        group: the heading that it stands under.
        metavar: what stands for a value.
        bounds: what a number may be.
        choices: what a word may be.
        place: whether it names the place, or what is shown, and not the numbers: it may differ in a resumed
            run, and stays out of model files.
        parts: the keys of a mapping that have options of their own.
    """

    text: str
    group: str = ""
    metavar: str | None = None
    bounds: Range | None = None
    choices: Sequence[str] = ()
    place: bool = False
    parts: Mapping[str, Option] = field(default_factory=dict)


def size(text: str) -> tuple[int, int]:
    """Read `HEIGHTxWIDTH`, or one number for a square; both at least 1.

    Raises:
        UsageError: if it is neither.
    """
    match = re.fullmatch(r"([0-9]{1,30})(?:[x,]([0-9]{1,30}))?", text.strip().lower())
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        shown = printable(text, 60)
        raise UsageError(f"expected HEIGHTxWIDTH such as 360x480, or 360 for a square, received '{shown}'")
    return int(match[1]), int(match[2] or match[1])


def named_options(text: str) -> tuple[str, dict[str, str]]:
    """Split `NAME` or `NAME:key=value,key=value` into the name and its options; no value may hold a comma.

    Returns:
        The name as written, and the values as written by key; keys with `_` for `-`.

    Raises:
        UsageError: if there is no name, a part after the colon is not `key=value`, or a key comes twice.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise UsageError(f"expected NAME or NAME:key=value,key=value, received '{text}'")
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise UsageError(f"expected key=value, received '{part}' in '{text}'")
        key = key.replace("-", "_")
        if key in options:
            raise UsageError(f"`{key}` is given twice in '{text}'")
        options[key] = value
    return name.strip(), options
