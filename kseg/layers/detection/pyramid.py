"""Regions of a feature pyramid: each box is looked up in the level that fits its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseg.checks import pair, whole
from kseg.layers.detection.boxes import sides
from kseg.layers.detection.regions import aligned_samples
from kseg.layers.detection.rows import take


@keras.saving.register_keras_serializable(package="kseg")
class PyramidRoIAlign(keras.layers.Layer):
    """`RoIAlign` of each box in one level of a pyramid (Lin et al., FPN, CVPR 2017, equation 1).

    A box of height h and width w goes to level `floor(log2(sqrt(h w) / canonical))`, counted from the level
    whose stride is a 56th of `canonical`: 224 pixels go to stride 16 at the default.

    All levels lie in one list of pixels, from which the neighbours of each sample are gathered: the cost
    does not grow with the levels. Gradients reach the features, not the boxes.

    Args:
        size: bins `(rows, columns)`.
        strides: of the levels, each twice the one before.
        samples: per bin and axis.
        canonical: side of a box, in pixels, that belongs to the level of stride 16.

    Returns:
        `(B, N, rows, columns, C)` for boxes `(B, N, 4)` in pixels of the image and features of all levels, a
        list of `(B, H, W, C)`.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        strides: Sequence[int],
        samples: int = 2,
        canonical: float = 224.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = pair(size, "PyramidRoIAlign", "size")
        self.strides = tuple(whole(stride, "PyramidRoIAlign", "strides") for stride in strides)
        self.samples = whole(samples, "PyramidRoIAlign", "samples")
        self.canonical = float(canonical)

    def compute_output_spec(self, boxes: Any, features: Sequence[Any]) -> Any:
        shape = (boxes.shape[0], boxes.shape[1], *self.size, features[0].shape[-1])
        return keras.KerasTensor(shape, self.compute_dtype)

    def call(self, boxes: Any, features: Sequence[Any]) -> Any:
        boxes = ops.cast(ops.stop_gradient(boxes), "float32")
        shapes = [ops.shape(level) for level in features]
        channels = features[0].shape[-1]
        pixels = ops.concatenate(
            [ops.reshape(level, (shapes[0][0], -1, channels)) for level in features], axis=1
        )
        level = self._levels(boxes)
        heights, widths, starts = (self._of_level(level, values) for values in _grids(shapes))
        stride = self._of_level(level, [float(stride) for stride in self.strides])
        rows = self._samples(boxes[..., 0] / stride, boxes[..., 2] / stride, self.size[0], heights)
        columns = self._samples(boxes[..., 1] / stride, boxes[..., 3] / stride, self.size[1], widths)
        total: Any = 0
        for row, row_weight in rows:
            for column, column_weight in columns:
                index = (
                    starts[..., None, None]
                    + row[..., :, None] * widths[..., None, None]
                    + column[..., None, :]
                )
                found = self._gathered(pixels, index)
                weight = row_weight[..., :, None] * column_weight[..., None, :]
                total = total + found * ops.cast(weight, found.dtype)[..., None]
        return self._binned(total, channels)

    def _levels(self, boxes: Any) -> Any:
        """Return the number of the level `(B, N)` of each box, float32."""
        height, width = sides(boxes)
        finest = math.log2(16 / self.strides[0])
        found = ops.floor(
            ops.log2(ops.sqrt(ops.maximum(height * width, 1e-6)) / self.canonical + 1e-6) + finest
        )
        return ops.clip(found, 0, len(self.strides) - 1)

    def _of_level(self, level: Any, values: Sequence[Any]) -> Any:
        """Return the value of each box's level, float32 `(B, N)`."""
        chosen = ops.zeros_like(level)
        for number, value in enumerate(values):
            chosen = ops.where(ops.equal(level, number), ops.cast(value, "float32"), chosen)
        return chosen

    def _samples(self, low: Any, high: Any, bins: int, size: Any) -> list[tuple[Any, Any]]:
        """Return both neighbours of each sample on an axis and their weights, each `(B, N, samples)`."""
        position, inside = aligned_samples(low, high, bins * self.samples, size[..., None])
        before = ops.floor(position)
        after = ops.minimum(before + 1, size[..., None] - 1)
        share = position - before
        return [(before, (1 - share) * inside), (after, share * inside)]

    def _gathered(self, pixels: Any, index: Any) -> Any:
        """Return `(B, N, rows, columns, C)` of pixels `(B, P, C)` at indices `(B, N, rows, columns)`."""
        shape = ops.shape(index)
        flat = ops.reshape(ops.cast(index, "int32"), (shape[0], -1))
        return ops.reshape(take(pixels, flat), (*shape, pixels.shape[-1]))

    def _binned(self, samples: Any, channels: int) -> Any:
        """Return the mean of each bin; one axis at a time, as XNNPACK takes no mean in seven dimensions."""
        batch, boxes = ops.shape(samples)[:2]
        rows, columns = self.size
        x = ops.mean(ops.reshape(samples, (-1, self.samples, columns * self.samples, channels)), axis=1)
        x = ops.mean(ops.reshape(x, (-1, self.samples, channels)), axis=1)
        return ops.reshape(x, (batch, boxes, rows, columns, channels))

    def get_config(self) -> dict[str, Any]:
        own = {
            "size": self.size,
            "strides": self.strides,
            "samples": self.samples,
            "canonical": self.canonical,
        }
        return {**super().get_config(), **own}


def _grids(shapes: Sequence[Sequence[Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return heights, widths and the place of the first pixel of each level in the list of all."""
    heights, widths = [shape[1] for shape in shapes], [shape[2] for shape in shapes]
    starts: list[Any] = [0]
    for height, width in zip(heights[:-1], widths[:-1], strict=True):
        starts.append(starts[-1] + height * width)
    return heights, widths, starts
