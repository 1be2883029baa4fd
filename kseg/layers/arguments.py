"""Checks of constructor arguments, and arithmetic of sizes, that several layers share."""

from __future__ import annotations

import math
from typing import Any

from kseg.errors import UsageError


def pair(value: Any, layer: str, name: str, minimum: int = 1) -> tuple[int, int]:
    """Return `value` as `(height, width)` of integers, or say which argument of which layer is wrong."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not whole or min(values) < minimum:
        raise UsageError(
            f"{layer} `{name}` must be an integer >= {minimum}, or two of them. Received: {name}={value!r}"
        )
    return values[0], values[1]


def whole(value: Any, layer: str, name: str, minimum: int = 1, maximum: float = math.inf) -> int:
    """Return `value` if it is an integer of at least `minimum` and at most `maximum`.

    Raises:
        UsageError: naming layer, argument and what was received.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        kind = "a positive integer" if minimum == 1 else f"an integer >= {minimum}"
        raise UsageError(f"{layer} `{name}` must be {kind}. Received: {name}={value!r}")
    if value > maximum:
        raise UsageError(f"{layer} `{name}` must be at most {maximum:,}. Received: {name}={value!r}")
    return value


def flag(value: Any, layer: str, name: str) -> bool:
    """Return `value` if it is True or False: a text such as "no" would count as true.

    Raises:
        UsageError: naming layer, argument and what was received.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{layer} `{name}` must be true or false. Received: {name}={value!r}")
    return value


def times(size: int | None, factor: int) -> int | None:
    """Multiply a static size that may be unknown."""
    return None if size is None else size * factor


def middle(size: int) -> int:
    """Return the index of the middle of `size` pixels; the first of two when there are two."""
    return (size - 1) // 2
