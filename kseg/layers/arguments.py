"""Checks of constructor arguments that several layers share."""

from __future__ import annotations

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


def times(size: int | None, factor: int) -> int | None:
    """Multiply a static size that may be unknown."""
    return None if size is None else size * factor
