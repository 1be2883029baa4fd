"""Grouped convolution in the form that every runtime accepts."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.errors import UsageError


@keras.saving.register_keras_serializable(package="kseg")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D(groups=...)` computed as one convolution per group and a concatenation.

    Weights, configuration and numbers are those of `Conv2D`; only the graph differs, because a grouped
    convolution does not convert to ONNX from the TensorFlow backend. AlexNet's conv2, conv4 and conv5 have
    two groups.
    """

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        if self.data_format != "channels_last":
            raise UsageError("GroupedConv2D `data_format` must be 'channels_last'.")

    def call(self, inputs: Any) -> Any:
        groups_in = ops.split(inputs, self.groups, axis=-1)
        kernels = ops.split(self.kernel, self.groups, axis=-1)
        outputs = ops.concatenate(
            [self.convolution_op(x, kernel) for x, kernel in zip(groups_in, kernels, strict=True)], axis=-1
        )
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)
