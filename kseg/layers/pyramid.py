"""Laplacian pyramid and local contrast normalisation, made of average pooling and resizing."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kseg.checks import pair, whole
from kseg.errors import UsageError
from kseg.layers.resampling import resize


@keras.saving.register_keras_serializable(package="kseg")
class LaplacianPyramid(keras.layers.Layer):
    """Splits an image into bands: what each halving of its size loses, and what is left at the end.

    `G[0]` is the image, `G[k + 1]` the averages of 2x2 pixels of `G[k]`; level k is `G[k]` minus `G[k + 1]`
    enlarged (half-pixel bilinear), the last level is `G[levels - 1]` itself. Enlarging the last level and
    adding the others one after another gives the image back. Of a constant image, all levels but the last
    are zero.

    Float32 unless told otherwise, because the bands are small differences.

    Args:
        levels: number of levels; sizes are divided by 1, 2, 4, ...

    Returns:
        A list of `levels` tensors `(B, H / 2**k, W / 2**k, C)` for an input `(B, H, W, C)`.

    Raises:
        UsageError: if H or W is known and no multiple of `2 ** (levels - 1)`.

    Reference:
        Burt, Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983; area averages instead of their
        Gaussian, as Farabet et al. 2013 scale down.
    """

    def __init__(self, levels: int = 3, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.levels = whole(levels, "LaplacianPyramid", "levels")

    def compute_output_shape(self, input_shape: tuple) -> list[tuple]:
        batch, height, width, channels = input_shape
        stride = 2 ** (self.levels - 1)
        if any(size is not None and size % stride for size in (height, width)):
            raise UsageError(
                f"LaplacianPyramid of {self.levels} levels halves height and width {self.levels - 1} times, "
                f"so both must be multiples of {stride}: put kseg.layers.PadToStride or MirrorBorder before "
                f"it. Received: {height} x {width}"
            )
        return [
            (batch, *(None if size is None else size // 2**level for size in (height, width)), channels)
            for level in range(self.levels)
        ]

    def call(self, inputs: Any) -> list[Any]:
        bands = []
        x = inputs
        for _ in range(self.levels - 1):
            smaller = ops.average_pool(x, 2, 2, padding="valid", data_format="channels_last")
            _, height, width, _ = ops.shape(smaller)
            bands.append(x - resize(smaller, 2 * height, 2 * width))
            x = smaller
        return [*bands, x]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable(package="kseg")
class LocalNormalization(keras.layers.Layer):
    """Local contrast normalisation: zero mean and unit variance around every pixel, in every channel.

    First the mean over the window is subtracted everywhere, then the result is divided by the root of the
    mean of its square over the window, or by `floor` where that is larger. Windows are cut off at the border
    and average over what is left, so that a constant image gives 0 everywhere.

    The window is an average pooling by rows and one by columns: for 15x15, 30 additions per pixel instead of
    225. Float32 unless told otherwise.

    Args:
        window: side in pixels, odd; an integer, or `(height, width)`. 15 is the paper's.
        floor: smallest standard deviation that is divided by, in units of the input, above 0. Weaker contrast
            is not amplified to 1: the default, 1 / 255, is one step of an 8-bit image in [0, 1].

    Returns:
        The shape of the input, `(B, H, W, C)`; magnitudes reach the side of the window, and are of order 1.

    Reference:
        Jarrett, Kavukcuoglu, Ranzato, LeCun, "What is the Best Multi-Stage Architecture for Object
        Recognition?", ICCV 2009 (there with a Gaussian window); Farabet et al. 2013.
    """

    def __init__(self, window: int | tuple[int, int] = 15, floor: float = 1 / 255, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.window = pair(window, "LocalNormalization", "window")
        if any(side % 2 == 0 for side in self.window):
            raise UsageError(f"LocalNormalization `window` must be odd. Received: window={window!r}")
        if not (math.isfinite(floor) and floor > 0):
            raise UsageError(f"LocalNormalization `floor` must be above 0. Received: floor={floor!r}")
        self.floor = float(floor)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def _mean(self, x: Any) -> Any:
        rows, columns = self.window
        for window in ((rows, 1), (1, columns)):
            x = ops.average_pool(x, window, strides=1, padding="same", data_format="channels_last")
        return x

    def call(self, inputs: Any) -> Any:
        # Squares are taken after the mean has gone: a mean square minus a squared mean loses small contrasts.
        centred = inputs - self._mean(inputs)
        # The floor is applied to the variance, because the root has no gradient at 0. As a ReLU: XNNPACK
        # merges a maximum into the pooling before it, and some of its versions then refuse the file.
        lowest = self.floor**2
        variance = ops.relu(self._mean(ops.square(centred)) - lowest) + lowest
        return centred / ops.sqrt(variance)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "floor": self.floor}
