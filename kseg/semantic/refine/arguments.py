"""Checks of the arguments of refiners, and the extra that their libraries come with."""

from __future__ import annotations

from typing import Any

from kseg.checks import ANY, Range

EXTRA = "refine"


def checked(name: str, value: float, low: float, high: float, whole: bool = False) -> Any:
    """Return `value` as a number from `low` to `high`.

    Raises:
        UsageError: naming the argument, its range and what was received.
    """
    if whole and value in ANY and value == int(value):
        value = int(value)
    return (int if whole else float)(Range(low, high, whole).check(value, name))
