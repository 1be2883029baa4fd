"""Pad an image to the stride of a network, and crop what the network gives back to the image's size.

Both work at the bottom and right only, so that pixel (0, 0) stays pixel (0, 0) and every runtime agrees
without offsets.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import pair


def missing(size: Any, stride: int) -> Any:
    """Return what `size`, an integer or a tensor, lacks to the next multiple of `stride`."""
    # Not (-size) % stride: the remainder of a negative number is not converted faithfully to ONNX.
    return (stride - size % stride) % stride


@keras.saving.register_keras_serializable(package="kseg")
class PadToStride(keras.layers.Layer):
    """Zero-pads height and width, at the bottom and right, up to a multiple of `stride`.

    With known height and width the padding is a constant of the graph; otherwise it is computed from the
    shape at run time.

    Args:
        stride: an integer, or `(vertical, horizontal)`.
        minimum: the least height and width that the network can take; an integer, or
            `(vertical, horizontal)`. Smaller images are padded up to it (to the next multiple of `stride`).

    Returns:
        `(B, ceil(H / stride) * stride, ceil(W / stride) * stride, C)` for an input `(B, H, W, C)` that is
        not smaller than `minimum`.

    Example:
        >>> PadToStride(32)(keras.Input((360, 480, 3))).shape
        (None, 384, 480, 3)
        >>> PadToStride(32, minimum=224)(keras.Input((100, 250, 3))).shape
        (None, 224, 256, 3)
    """

    def __init__(
        self, stride: int | tuple[int, int], minimum: int | tuple[int, int] = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.stride = pair(stride, "PadToStride", "stride")
        self.minimum = pair(minimum, "PadToStride", "minimum")

    def _missing(self, size: Any, axis: int) -> Any:
        """Rows (axis 0) or columns (axis 1) that `size` lacks; an integer when `size` is one."""
        step = self.stride[axis]
        after = missing(size, step)
        least = -(-self.minimum[axis] // step) * step
        if least == step:  # what every image is padded to anyway
            return after
        return max(after, least - size) if isinstance(size, int) else ops.maximum(after, least - size)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        sizes = [
            None if size is None else size + self._missing(size, axis)
            for axis, size in enumerate((height, width))
        ]
        return (batch, *sizes, channels)

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = ops.shape(inputs)
        bottom, right = self._missing(height, 0), self._missing(width, 1)
        if isinstance(bottom, int) and isinstance(right, int) and bottom == right == 0:
            return inputs
        return ops.pad(inputs, ((0, 0), (0, bottom), (0, right), (0, 0)))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "stride": self.stride}
        return config if self.minimum == (1, 1) else {**config, "minimum": self.minimum}


@keras.saving.register_keras_serializable(package="kseg")
class CropLike(keras.layers.Layer):
    """Crops the first of two tensors, from its top left corner, to the height and width of the second.

    Args:
        offset: rows and columns to leave out at the top and left first; an integer or a pair. The crop
            offsets of the paper form of FCN (5, 9, 19, 27, 31, 18) go here.

    Call arguments:
        inputs: `[x, like]`; x `(B, H, W, C)` at least as large as `offset` plus `like` `(B, h, w, D)`.

    Returns:
        `(B, h, w, C)`.
    """

    def __init__(self, offset: int | tuple[int, int] = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset = pair(offset, "CropLike", "offset", minimum=0)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        x, like = input_shape
        return (x[0], like[1], like[2], x[3])

    def call(self, inputs: list[Any]) -> Any:
        x, like = inputs
        _, height, width, _ = ops.shape(like)
        top, left = self.offset
        known = isinstance(height, int) and isinstance(width, int)
        if known and self.offset == (0, 0) and tuple(x.shape[1:3]) == (height, width):
            return x
        return x[:, top : top + height, left : left + width, :]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}
