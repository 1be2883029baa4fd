"""Arithmetic of sizes that several layers share."""

from __future__ import annotations


def times(size: int | None, factor: int) -> int | None:
    """Multiply a static size that may be unknown."""
    return None if size is None else size * factor


def middle(size: int) -> int:
    """Return the index of the middle of `size` pixels; the first of two when there are two."""
    return (size - 1) // 2
