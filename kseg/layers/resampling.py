"""Bilinear enlargement by a factor or to the size of another tensor (half-pixel centres)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import pair
from kseg.layers.sizes import times


def resize(x: Any, height: Any, width: Any) -> Any:
    """Half-pixel bilinear resize of `(B, H, W, C)`; `height`, `width` integers or scalar tensors."""
    if isinstance(height, int) and isinstance(width, int):
        if tuple(x.shape[1:3]) == (height, width):
            return x
        resized = ops.image.resize(
            x, (height, width), interpolation="bilinear", antialias=False, data_format="channels_last"
        )
    else:
        # Only TensorFlow's graphs have sizes that are unknown until run time, and keras.ops refuses them.
        import tensorflow as tf

        resized = tf.image.resize(x, (height, width), method="bilinear")
    return ops.cast(resized, x.dtype)


@keras.saving.register_keras_serializable(package="kseg")
class BilinearUpsampling(keras.layers.Layer):
    """Enlarges by whole factors with half-pixel bilinear interpolation; borders are replicated.

    Unlike `keras.layers.UpSampling2D` it accepts unknown height and width.

    Args:
        factor: an integer, or `(vertical, horizontal)`.

    Returns:
        `(B, H * factor, W * factor, C)` for an input `(B, H, W, C)`.
    """

    def __init__(self, factor: int | tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = pair(factor, "BilinearUpsampling", "factor")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, times(height, self.factor[0]), times(width, self.factor[1]), channels)

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = ops.shape(inputs)
        return resize(inputs, height * self.factor[0], width * self.factor[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="kseg")
class ResizeLike(keras.layers.Layer):
    """Resizes the first of two tensors to the height and width of the second (half-pixel bilinear).

    Meant for enlarging: no smoothing is done when it makes smaller.

    Call arguments:
        inputs: `[x, like]`; x `(B, H, W, C)`, like `(B, h, w, D)`.

    Returns:
        `(B, h, w, C)`.
    """

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        x, like = input_shape
        return (x[0], like[1], like[2], x[3])

    def call(self, inputs: list[Any]) -> Any:
        x, like = inputs
        _, height, width, _ = ops.shape(like)
        return resize(x, height, width)
