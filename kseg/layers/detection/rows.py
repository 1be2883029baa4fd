"""Rows of boxes: taken by their indices, filled up to a number."""

from __future__ import annotations

from typing import Any

from keras import ops


def take(values: Any, index: Any) -> Any:
    """Return rows `(B, S, ...)` of values `(B, N, ...)`, up to three axes, by their indices `(B, S)`."""
    if len(values.shape) == 2:
        return ops.take_along_axis(values, index, axis=1)
    # Whole rows out of one list: `take_along_axis` would look each channel up by an index of its own.
    batch, count, channels = ops.shape(values)
    first = ops.arange(batch, dtype="int32")[:, None] * count
    return ops.take(ops.reshape(values, (-1, channels)), ops.cast(index, "int32") + first, axis=0)


def filled_up(values: Any, count: int, fill: float = 0) -> Any:
    """Return values `(B, N, ...)` with rows of `fill` behind them, so that there are at least `count`.

    Where nobody knows N before the graph runs, `count` rows are added.
    """
    have = values.shape[1]
    missing = count if have is None else max(0, count - have)
    if not missing:
        return values
    return ops.pad(values, ((0, 0), (0, missing)) + ((0, 0),) * (len(values.shape) - 2), constant_values=fill)
