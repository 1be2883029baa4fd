"""Masks of boxes as training targets."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import whole
from kseg.layers.detection.regions import tent
from kseg.layers.detection.rows import take

# Rows and columns of a true mask on the grid of its box.
TRUE_SIDE = 56


def grid(boxes: Any, axis: int, size: int) -> Any:
    """Return `(..., size)`: the middles of the rows (axis 0) or columns (axis 1) of a grid over boxes."""
    steps = (ops.arange(size, dtype="float32") + 0.5) / size
    return boxes[..., axis, None] + (boxes[..., axis + 2] - boxes[..., axis])[..., None] * steps


def grid_weights(positions: Any, low: Any, high: Any, side: int) -> Any:
    """Return `(..., P, side)`: what positions on an axis take of each row of a grid over `low`..`high`.

    Args:
        positions: that broadcast to `(..., P)`; outside of the grid they take nothing.
        low, high: `(...)`.
        side: rows of the grid.
    """
    share = (positions - low[..., None]) / ops.maximum(high - low, 1e-6)[..., None]
    inside = ops.cast(ops.logical_and(share >= 0, share <= 1), "float32")
    return tent(ops.clip(share * side - 0.5, 0, side - 1), side) * inside[..., None]


def on_grid(masks: Any, own: Any, boxes: Any, size: int) -> Any:
    """Return `(B, N, size, size)`: what grids over boxes show of masks `(B, N, m, m)` over their own."""
    rows, columns = (
        grid_weights(grid(boxes, axis, size), own[..., axis], own[..., axis + 2], masks.shape[-1])
        for axis in (0, 1)
    )
    return ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))


@keras.saving.register_keras_serializable(package="kseg")
class MaskTargets(keras.layers.Layer):
    """What of its true mask a box shows, on a grid of the box (He et al., Mask R-CNN, ICCV 2017, section 3).

    True masks come as small grids over their own boxes, so that memory does not grow with the image.

    Args:
        size: rows and columns of the grid of each box.
        threshold: share of a cell from which it is 1.

    Returns:
        float32 `(B, N, size, size)`, 0 or 1 (outside of the true box 0), for boxes `(B, N, 4)`, the numbers
        `(B, N)` of their true boxes, true boxes `(B, M, 4)` and true masks `(B, M, m, m)` in 0..1.
    """

    def __init__(self, size: int, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size, self.threshold = whole(size, "MaskTargets", "size"), threshold

    def compute_output_spec(self, boxes: Any, index: Any, true_boxes: Any, true_masks: Any) -> Any:
        return keras.KerasTensor((*boxes.shape[:2], self.size, self.size), "float32")

    def call(self, boxes: Any, index: Any, true_boxes: Any, true_masks: Any) -> Any:
        boxes = ops.stop_gradient(boxes)
        side = true_masks.shape[-1]
        own = take(true_boxes, index)
        masks = ops.reshape(ops.cast(true_masks, "float32"), (*ops.shape(true_masks)[:2], side * side))
        masks = take(masks, index)
        masks = ops.reshape(masks, (*ops.shape(boxes)[:2], side, side))
        return ops.cast(on_grid(masks, own, boxes, self.size) >= self.threshold, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="kseg")
class TightBoxes(keras.layers.Layer):
    """Boxes drawn in to their masks, and the masks on grids over those.

    Returns:
        `boxes` float32 `(B, N, 4)`: around the cells of 0.5 and more, as they were where there is none; and
        `masks` `(B, N, m, m)`, of what came in bilinear samples; for boxes `(B, N, 4)` and masks `(B, N, m,
        m)` on grids over them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, boxes: Any, masks: Any) -> tuple:
        return keras.KerasTensor(boxes.shape), keras.KerasTensor(masks.shape)

    def call(self, boxes: Any, masks: Any) -> tuple[Any, Any]:
        side = masks.shape[-1]
        places = ops.arange(side, dtype="float32")
        low, high = [], []
        for axis in (0, 1):
            there = ops.max(masks, axis=3 - axis) >= 0.5
            first = ops.min(ops.where(there, places, float(side)), axis=-1)
            behind = ops.max(ops.where(there, places + 1, 0.0), axis=-1)
            some = behind > first
            start, end = boxes[..., axis], boxes[..., axis + 2]
            cell = (end - start) / side
            low.append(start + ops.where(some, first, 0.0) * cell)
            # The sum of all cells may be rounded to behind the box, and so to outside of the image.
            high.append(ops.minimum(start + ops.where(some, behind, float(side)) * cell, end))
        tight = ops.stack([*low, *high], axis=-1)
        rows, columns = (
            grid_weights(grid(tight, axis, side), boxes[..., axis], boxes[..., axis + 2], side)
            for axis in (0, 1)
        )
        return tight, ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))
