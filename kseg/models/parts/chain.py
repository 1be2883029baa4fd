"""A chain of valid layers that runs strided, dense, or in between, over the same weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from kseg.errors import UsageError
from kseg.layers import RarefiedConv2D, RarefiedMaxPooling2D

# Layers that see one pixel at a time, so that neither strides nor dilation touch them.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.BatchNormalization,
)


class Chain:
    """Valid convolutions, poolings and pointwise layers, one after another.

    The same layer objects are called every time, so all forms share their weights: on one patch the strided
    form gives one answer; on an image the dense form gives the answers of all patches, the same numbers.
    (Batch normalisation keeps that only at inference: in training its statistics are those of the batch.)

    Args:
        layers: `RarefiedConv2D`, `RarefiedMaxPooling2D` and pointwise Keras layers, square kernels only.

    Attributes:
        receptive_field: side, in input pixels, of what one output value sees.
        stride: distance, in input pixels, of neighbouring outputs of the strided form.

    Raises:
        UsageError: for a layer that has no dense form here.

    Example:
        >>> chain = Chain([RarefiedConv2D(8, 5), RarefiedMaxPooling2D(2), RarefiedConv2D(3, 4)])
        >>> chain.receptive_field, chain.stride
        (12, 2)
        >>> patch = chain(keras.Input((12, 12, 3)), output_stride=2)     # (None, 1, 1, 3)
        >>> dense = chain(keras.Input((40, 50, 3)))                      # (None, 29, 39, 3)
    """

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        self.layers = tuple(layers)
        self.receptive_field = 1
        self.stride = 1
        for layer in self.layers:
            self.receptive_field += (_window(layer) - 1) * self.stride
            if isinstance(layer, RarefiedMaxPooling2D):
                self.stride *= layer.pool_size[0]

    def __call__(self, x: Any, output_stride: int = 1, rate: int = 1) -> Any:
        """Apply the chain.

        Args:
            x: `(B, H, W, C)`.
            output_stride: distance of neighbouring outputs in pixels of `x`, a divisor of
                `stride`. Strides are kept while their product divides it; what is left over becomes dilation.
                1: an output for every pixel; `stride`: the strided net.
            rate: distance, in pixels of `x`, of the neighbours for which the first layer is made: above 1
                where `x` is itself the dense output of a strided net.

        Returns:
            Output i is the answer of the patch that begins at pixel `i * output_stride` of `x`; at rate 1 and
            output stride 1, `(B, H - receptive_field + 1, W - receptive_field + 1, channels)`.

        Raises:
            UsageError: if no combination of strides gives `output_stride`, or `x` is smaller than one patch.
        """
        check_output_stride(output_stride, self.stride)
        kept = 1
        for layer in self.layers:
            if isinstance(layer, RarefiedConv2D):
                x = layer(x, rate=rate)
            elif isinstance(layer, RarefiedMaxPooling2D):
                stride = layer.pool_size[0]
                step = math.gcd(output_stride // kept, stride)
                x = layer(x, rate=rate) if step == stride else layer(x, rate=rate, dense=True, step=step)
                kept, rate = kept * step, rate * stride // step
            else:
                x = layer(x)
        return x

    def answers(self, x: Any, output_stride: int) -> list[Any]:
        """Return what the chain gives, alone in a list (`kseg.models.parts.patchwise`)."""
        return [self(x, output_stride)]


def check_output_stride(output_stride: int, stride: int) -> None:
    """Raise a UsageError unless `output_stride` is a positive divisor of a network's `stride`."""
    whole = isinstance(output_stride, int) and not isinstance(output_stride, bool)
    if not whole or output_stride < 1 or stride % output_stride:
        divisors = ", ".join(str(n) for n in range(1, stride + 1) if stride % n == 0)
        raise UsageError(
            f"Argument `output_stride` must divide the stride of the network: one of {divisors}. "
            f"Received: output_stride={output_stride!r}"
        )


def _window(layer: keras.layers.Layer) -> int:
    """Side of the window of a layer; 1 for pointwise layers."""
    if isinstance(layer, (RarefiedConv2D, RarefiedMaxPooling2D)):
        window = layer.kernel_size if isinstance(layer, RarefiedConv2D) else layer.pool_size
        if window[0] != window[1]:
            raise UsageError(
                f"Chain needs square windows. Received: layer '{layer.name}' of {window[0]} x {window[1]}"
            )
        return window[0]
    if not isinstance(layer, _POINTWISE):
        raise UsageError(
            "Chain takes RarefiedConv2D, RarefiedMaxPooling2D, activations, dropout and batch normalisation, "
            f"whose dense form is known. Received: layer '{layer.name}' of type {type(layer).__name__}"
        )
    return 1
