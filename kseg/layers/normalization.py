"""Normalisation: a faster batch normalisation on TensorFlow, AlexNet's LRN, a fixed scale."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.errors import UsageError

# TensorFlow's fused kernel raises a smaller epsilon to this value, which would change the numbers.
_SMALLEST_FUSED_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(package="kseg")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, trained with TensorFlow's fused kernel where that applies.

    The fused kernel computes moments, output and gradients in one pass each (what it gains:
    benchmarks/train_step.py). Output, gradients and moving statistics are those of Keras' layer (biased
    variance) to rounding. It is used in training on the TensorFlow backend, for four-dimensional
    channels-last inputs without mask; everything else, inference included, is Keras' own code, so that
    exported graphs do not change and a file loads on any backend.
    """

    def _fuses(self, inputs: Any, training: Any, mask: Any) -> bool:
        return (
            training is True
            and self.trainable
            and mask is None
            and keras.config.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            and not getattr(self, "renorm", False)
            and self.epsilon >= _SMALLEST_FUSED_EPSILON
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not self._fuses(inputs, training, mask):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        shape = tf.shape(inputs)
        count = tf.cast(shape[0] * shape[1] * shape[2], "float32")
        channels = inputs.shape[-1]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=tf.cast(self.gamma, "float32") if self.scale else tf.ones(channels),
            offset=tf.cast(self.beta, "float32") if self.center else tf.zeros(channels),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance (n / (n - 1)); Keras keeps the biased one.
        variance = variance * (tf.maximum(count - 1.0, 1.0) / count)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kept = ops.cast(moving, "float32") * self.momentum
            moving.assign(kept + tf.stop_gradient(batch) * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="kseg")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides by `(bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta`.

    The defaults are AlexNet's (Caffe's convention: `alpha` is divided by `size`).

    Args:
        size: odd number of neighbouring channels, the channel itself included.
        alpha: weight of the mean square.
        beta: exponent.
        bias: what is added to the mean square.

    Reference:
        Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
        section 3.3.
    """

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise UsageError(
                f"LocalResponseNormalization `size` must be odd and positive. Received: size={size!r}"
            )
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def call(self, inputs: Any) -> Any:
        # Squares of activations of a few hundred overflow float16.
        x = ops.cast(inputs, "float32")
        channels = x.shape[-1]
        half = self.size // 2
        squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (half, half)))
        total = squares[..., :channels]
        for shift in range(1, self.size):
            total = total + squares[..., shift : shift + channels]
        scale = ops.power(self.bias + (self.alpha / self.size) * total, -self.beta)
        return ops.cast(x * scale, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="kseg")
class FixedScale(keras.layers.Layer):
    """Multiplies by a constant that is not trained.

    The "at once" form of FCN-8s scales pool4 by 0.01 and pool3 by 0.0001 before their score layers.
    """

    def __init__(self, value: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = float(value)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)

    def call(self, inputs: Any) -> Any:
        return inputs * self.value

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "value": self.value}
