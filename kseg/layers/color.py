"""Colour spaces computed inside the graph, from an image as networks get it: already normalised.

Both layers first undo the normalisation, so they have to know it. Unless told otherwise they work in float32
whatever the global dtype policy, because differences of neighbouring pixels are taken of what they give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError
from kseg.spec import Normalization

# Rows Y, U, V over R, G, B: ITU-R BT.601 luma, analogue PAL scaling of the colour differences.
YUV_FROM_RGB = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.14714119, -0.28886916, 0.43601035],
        [0.61497538, -0.51496512, -0.10001026],
    ]
)
# Rows X, Y, Z over linear R, G, B: sRGB primaries, white D65 (2 degree observer).
XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
D65 = np.array([0.95047, 1.0, 1.08883])
# L, a, b over the cube roots of X, Y, Z, each relative to white; L has -16 added.
LAB_FROM_ROOTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])


def _pixelwise(x: Any, matrix: np.ndarray, offset: np.ndarray | None = None) -> Any:
    """`matrix @ pixel + offset`, as a sum over channels.

    Not as a 1x1 convolution: int8 artefacts quantise convolutions, and colours in steps of 1/127 leave
    little of the differences between neighbours.
    """
    first, second, third = (
        x[..., channel : channel + 1] * ops.convert_to_tensor(column, x.dtype)
        for channel, column in enumerate(matrix.T)
    )
    total = first + second + third
    return total if offset is None else total + ops.convert_to_tensor(offset, x.dtype)


class _FromNormalized(keras.layers.Layer):
    """Base of the two layers: holds the normalisation that its input has had.

    Args:
        normalization: `kseg.spec.Normalization`, or a mapping of its fields; None: the default one, which
            maps 0-255 to [-1, 1].
    """

    def __init__(self, normalization: Normalization | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.normalization = Normalization.of(normalization)

    def build(self, input_shape: tuple) -> None:
        if len(input_shape) != 4 or input_shape[-1] != 3:
            raise UsageError(
                f"{type(self).__name__} takes colour images (B, H, W, 3). Received: shape {input_shape}"
            )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def _columns(self, matrix: np.ndarray) -> np.ndarray:
        """Reorder a matrix over R, G, B to the channel order of the input."""
        return matrix if self.normalization.order == "rgb" else matrix[:, ::-1]

    def _to_unit(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and offset, per channel of the input, that give values in [0, 1]."""
        mean, std = np.array(self.normalization.mean), np.array(self.normalization.std)
        return std / 255.0, mean / 255.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalization": dataclasses.asdict(self.normalization)}


@keras.saving.register_keras_serializable(package="kseg")
class RGBToYUV(_FromNormalized):
    """Luma and two colour differences of a normalised image (`skimage.color.rgb2yuv`).

    Args:
        normalization: what the image has had: a `kseg.spec.Normalization`, a mapping of its fields, or None
            for the default.

    Returns:
        `(B, H, W, 3)` for `(B, H, W, 3)`: Y in [0, 1], U in [-0.436, 0.436], V in [-0.615, 0.615] for
        images of 0-255; the map is linear, so nothing is clipped.

    Raises:
        UsageError: if the input has not three channels.

    Example:
        >>> yuv = RGBToYUV()(keras.Input((None, None, 3)))
    """

    def call(self, inputs: Any) -> Any:
        scale, offset = self._to_unit()
        matrix = self._columns(YUV_FROM_RGB)
        return _pixelwise(inputs, matrix * scale, matrix @ offset)


@keras.saving.register_keras_serializable(package="kseg")
class RGBToLab(_FromNormalized):
    """CIELab of a normalised sRGB image, white D65, 2 degree observer (`skimage.color.rgb2lab`).

    Values outside 0-255 are clipped first. Every power has a base above zero, so gradients are finite
    everywhere, black included.

    Args:
        normalization: what the image has had: a `kseg.spec.Normalization`, a mapping of its fields, or None
            for the default.

    Returns:
        `(B, H, W, 3)` for `(B, H, W, 3)`: L in [0, 100], a in [-86.2, 98.3], b in [-107.9, 94.5].

    Raises:
        UsageError: if the input has not three channels.

    Example:
        >>> lab = RGBToLab()(keras.Input((None, None, 3)))
    """

    def call(self, inputs: Any) -> Any:
        scale, offset = (ops.cast(value, inputs.dtype) for value in self._to_unit())
        x = ops.clip(inputs * scale + offset, 0.0, 1.0)
        curved = ops.power((ops.maximum(x, 0.04045) + 0.055) / 1.055, 2.4)
        linear = ops.where(x > 0.04045, curved, x / 12.92)
        xyz = _pixelwise(linear, self._columns(XYZ_FROM_RGB) / D65[:, None])
        # CIE's cube root with a straight piece near black, below (6 / 29) ** 3.
        roots = ops.power(ops.maximum(xyz, 0.008856), 1.0 / 3.0)
        roots = ops.where(xyz > 0.008856, roots, 7.787 * xyz + 16.0 / 116.0)
        return _pixelwise(roots, LAB_FROM_ROOTS, np.array([-16.0, 0.0, 0.0]))
