"""The mirrored border that a network of valid convolutions sees around an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import pair
from kseg.layers.padding import PadToStride


def mirrored(
    positions: Any, size: Any, maximum: Callable = np.maximum, minimum: Callable = np.minimum
) -> Any:
    """Return the row (or column) of an image of `size` rows that is seen at each of `positions`.

    As `numpy.pad(mode="reflect")`: from mirror to mirror, the outermost row not repeated.

    Args:
        positions: integers of any size and sign; NumPy, or a tensor.
        size: rows of the image, at least 1.
        maximum: NumPy's, or that of `keras.ops` for tensors.
        minimum: likewise.
    """
    period = maximum(2 * (size - 1), 1)
    along = maximum(positions, -positions) % period
    return minimum(along, period - along)


@keras.saving.register_keras_serializable(package="kseg")
class MirrorBorder(PadToStride):
    """Mirrors the border of an image, the outermost row not repeated; bottom and right up to a stride.

    As `numpy.pad(mode="reflect")`: an image smaller than its border is mirrored again and again, and one of
    a single row is repeated. Convolutions that eat `before + after` pixels give values for the whole image.

    Args:
        before: rows at the top and columns at the left; an integer or a pair.
        after: rows at the bottom and columns at the right, before the size is completed to the stride.
        stride: height and width of the image itself are completed to multiples of this.

    Returns:
        `(B, before + ceil(H / stride) * stride + after, ..., C)` for an input `(B, H, W, C)`.

    Reference:
        Ciresan et al., "Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy Images",
        NIPS 2012: windows at the border see mirrored pixels.
    """

    def __init__(
        self,
        before: int | tuple[int, int],
        after: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(stride, **kwargs)
        self.before = pair(before, "MirrorBorder", "before", minimum=0)
        self.after = pair(after, "MirrorBorder", "after", minimum=0)

    def _added(self, size: Any, axis: int) -> Any:
        """Rows that are added at the bottom (axis 0), or columns at the right (axis 1)."""
        return self.after[axis] + self._missing(size, axis)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = [
            None if size is None else self.before[axis] + size + self._added(size, axis)
            for axis, size in enumerate(input_shape[1:3])
        ]
        return (input_shape[0], *sizes, input_shape[3])

    def call(self, inputs: Any) -> Any:
        sizes = ops.shape(inputs)[1:3]
        border = [(self.before[axis], self._added(size, axis)) for axis, size in enumerate(sizes)]
        if all(isinstance(size, int) and size > max(b) for size, b in zip(sizes, border, strict=True)):
            return ops.pad(inputs, ((0, 0), *border, (0, 0)), mode="reflect")
        x = inputs
        for axis, (size, (before, after)) in enumerate(zip(sizes, border, strict=True)):
            if isinstance(size, int):
                rows = mirrored(np.arange(-before, size + after), size)
                x = ops.take(x, rows.astype("int32"), axis=axis + 1)
            else:
                positions = ops.arange(before + size + after, dtype="int32") - before
                x = ops.take(x, mirrored(positions, size, ops.maximum, ops.minimum), axis=axis + 1)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "before": self.before, "after": self.after}
