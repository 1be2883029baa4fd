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


@keras.saving.register_keras_serializable(package="kseg")
class MaskTargets(keras.layers.Layer):
    """What of its true mask a box shows, on a grid of the box (He et al., Mask R-CNN, ICCV 2017, section 3).

    True masks come as small grids over their own boxes, so that memory does not grow with the image.

    Args:
        size: rows and columns of the grid of each box.

    Returns:
        float32 `(B, N, size, size)`, 0 or 1 (outside of the true box 0), for boxes `(B, N, 4)`, the numbers
        `(B, N)` of their true boxes, true boxes `(B, M, 4)` and true masks `(B, M, m, m)` in 0..1.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = whole(size, "MaskTargets", "size")

    def compute_output_spec(self, boxes: Any, index: Any, true_boxes: Any, true_masks: Any) -> Any:
        return keras.KerasTensor((*boxes.shape[:2], self.size, self.size), "float32")

    def call(self, boxes: Any, index: Any, true_boxes: Any, true_masks: Any) -> Any:
        boxes = ops.stop_gradient(boxes)
        side = true_masks.shape[-1]
        own = take(true_boxes, index)
        masks = ops.reshape(ops.cast(true_masks, "float32"), (*ops.shape(true_masks)[:2], side * side))
        masks = take(masks, index)
        masks = ops.reshape(masks, (*ops.shape(boxes)[:2], side, side))
        rows = self._weights(boxes[..., 0], boxes[..., 2], own[..., 0], own[..., 2], side)
        columns = self._weights(boxes[..., 1], boxes[..., 3], own[..., 1], own[..., 3], side)
        found = ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))
        return ops.cast(found >= 0.5, "float32")

    def _weights(self, low: Any, high: Any, own_low: Any, own_high: Any, side: int) -> Any:
        """Return `(B, N, size, side)`: what each row of the grid takes of each row of the true mask."""
        steps = (ops.arange(self.size, dtype="float32") + 0.5) / self.size
        position = low[..., None] + (high - low)[..., None] * steps
        share = (position - own_low[..., None]) / ops.maximum(own_high - own_low, 1e-6)[..., None]
        inside = ops.cast(ops.logical_and(share >= 0, share <= 1), "float32")
        return tent(ops.clip(share * side - 0.5, 0, side - 1), side) * inside[..., None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}
