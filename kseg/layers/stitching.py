"""Shift-and-stitch: shifted crops of an image on the batch axis, and the answers interlaced again.

No tensor has more than four axes, and nothing is scattered.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import whole
from kseg.errors import UsageError
from kseg.layers.sizes import times


@keras.saving.register_keras_serializable(package="kseg")
class ShiftToBatch(keras.layers.Layer):
    """Stacks `shifts * shifts` crops of an image on the batch axis, each moved on by `step` pixels.

    Crop (i, j) begins at pixel `(i * step, j * step)` and stands at `(j * shifts + i) * B` of the batch; all
    crops have the same size.

    Args:
        shifts: number of shifts per axis.
        step: pixels between neighbouring shifts.

    Returns:
        `(shifts * shifts * B, H - (shifts - 1) * step, W - (shifts - 1) * step, C)` for `(B, H, W, C)`.

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", section 3.2.
    """

    def __init__(self, shifts: int, step: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shifts = whole(shifts, "ShiftToBatch", "shifts")
        self.step = whole(step, "ShiftToBatch", "step")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        lost = (self.shifts - 1) * self.step
        sizes = [None if size is None else size - lost for size in (height, width)]
        if any(size is not None and size < 1 for size in sizes):
            raise UsageError(
                f"ShiftToBatch shifts by up to {lost} pixels, so height and width must be larger. "
                f"Received: input shape {tuple(input_shape)}"
            )
        return (times(batch, self.shifts**2), *sizes, channels)

    def call(self, inputs: Any) -> Any:
        last = (self.shifts - 1) * self.step
        starts = range(0, last + 1, self.step)
        # None, not 0, is the end of the last crop.
        ends = [start - last or None for start in starts]
        rows = ops.concatenate(
            [inputs[:, start:end, :, :] for start, end in zip(starts, ends, strict=True)], axis=0
        )
        return ops.concatenate(
            [rows[:, :, start:end, :] for start, end in zip(starts, ends, strict=True)], axis=0
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifts": self.shifts, "step": self.step}


@keras.saving.register_keras_serializable(package="kseg")
class StitchFromBatch(keras.layers.Layer):
    """Interlaces the answers to the crops of `ShiftToBatch`: value `(y, x)` of crop (i, j) goes to
    `(y * shifts + i, x * shifts + j)`.

    Args:
        shifts: number of shifts per axis.

    Returns:
        `(B, h * shifts, w * shifts, C)` for an input `(shifts * shifts * B, h, w, C)`.
    """

    def __init__(self, shifts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shifts = whole(shifts, "StitchFromBatch", "shifts")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        if batch is not None:
            batch //= self.shifts**2
        return (batch, times(height, self.shifts), times(width, self.shifts), channels)

    def call(self, inputs: Any) -> Any:
        _, height, width, channels = ops.shape(inputs)
        # Columns first: neighbours in a row stand side by side, and a reshape makes one longer row of them.
        x = ops.concatenate(ops.split(inputs, self.shifts, axis=0), axis=-1)
        x = ops.reshape(x, (-1, height, width * self.shifts, channels))
        x = ops.concatenate(ops.split(x, self.shifts, axis=0), axis=2)
        return ops.reshape(x, (-1, height * self.shifts, width * self.shifts, channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifts": self.shifts}


@keras.saving.register_keras_serializable(package="kseg")
class Subsample(keras.layers.Layer):
    """Takes every `step`-th pixel in both directions, from row and column `offset` on.

    So are pixels taken at the centres of receptive fields: `offset = (receptive field - 1) / 2`.

    Args:
        step: distance of the pixels that are taken.
        offset: the first row and column.

    Call arguments:
        inputs: x `(B, H, W, C)`; or `[x, like]`, with like `(B, h, w, D)`, for the first `h * w` of them.

    Returns:
        `(B, ceil((H - offset) / step), ..., C)`, or `(B, h, w, C)`.
    """

    def __init__(self, step: int = 1, offset: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = whole(step, "Subsample", "step")
        self.offset = whole(offset, "Subsample", "offset", minimum=0)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        if isinstance(input_shape[0], (tuple, list)):
            x, like = input_shape
            return (x[0], like[1], like[2], x[3])
        batch, height, width, channels = input_shape
        sizes = [None if size is None else -(-(size - self.offset) // self.step) for size in (height, width)]
        return (batch, *sizes, channels)

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, (tuple, list)):
            return inputs[:, self.offset :: self.step, self.offset :: self.step, :]
        x, like = inputs
        ends = [self.offset + (size - 1) * self.step + 1 for size in ops.shape(like)[1:3]]
        return x[:, self.offset : ends[0] : self.step, self.offset : ends[1] : self.step, :]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "step": self.step, "offset": self.offset}
