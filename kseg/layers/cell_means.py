"""Means over the cells of a coarse grid, whatever the sides."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kseg.checks import whole
from kseg.errors import UsageError


def cell_weights(side: int, cells: int) -> NDArray[np.float32]:
    """Return `(cells, side)`: the share of each cell that each pixel fills; rows sum to 1.

    Args:
        side: pixels along an axis.
        cells: equal parts that the axis is cut into; a pixel may lie in two of them.
    """
    edges = np.linspace(0, side, cells + 1)
    pixels = np.arange(side)
    common = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(common, 0) * (cells / side)).astype(np.float32)


@keras.saving.register_keras_serializable(package="kseg")
class CellMeans(keras.layers.Layer):
    """The mean of each cell of a `cells` x `cells` grid over an image of one channel.

    Args:
        cells: of each axis. Sides need not be multiples of it: a pixel on an edge counts in parts.

    Returns:
        `(B, cells * cells)`, row by row, for `(B, H, W, 1)` of known sides.
    """

    def __init__(self, cells: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cells = whole(cells, "CellMeans", "cells")

    def build(self, input_shape: tuple) -> None:
        if None in input_shape[1:3] or input_shape[3] != 1:
            raise UsageError(
                f"CellMeans takes (B, H, W, 1) of known sides. Received: input shape {tuple(input_shape)}"
            )
        self.built = True

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.cells**2)

    def call(self, inputs: Any) -> Any:
        height, width = inputs.shape[1:3]
        down, across = (ops.cast(cell_weights(side, self.cells).T, inputs.dtype) for side in (height, width))
        x = ops.matmul(inputs[..., 0], across)
        x = ops.matmul(ops.transpose(x, (0, 2, 1)), down)
        return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, self.cells**2))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": self.cells}
