"""Convolution and max-pooling whose filters are spread out at call time: one net runs strided or dense.

A net of valid convolutions and strided poolings gives one answer per patch. To give one per pixel, each
stride becomes 1 and all filters behind it are rarefied: their taps are set `rate` pixels apart, where `rate`
is the product of the strides that were taken away. The weights stay the same; only `rate` differs between
the calls.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import pair, whole
from kseg.errors import UsageError


def _valid(size: int | None, window: int, rate: int, step: int = 1) -> int | None:
    """Positions of a window of `window` taps, `rate` apart, that moves `step` at a time; None if unknown."""
    return None if size is None else (size - (window - 1) * rate - 1) // step + 1


def _check_size(
    layer: Any, shape: tuple, sizes: list[int | None], window: tuple[int, int], rate: int
) -> None:
    """Raise a UsageError when not one window fits into the input."""
    if any(size is not None and size < 1 for size in sizes):
        needed = [(taps - 1) * rate + 1 for taps in window]
        raise UsageError(
            f"{type(layer).__name__} '{layer.name}' at rate {rate} reaches over {needed[0]} x {needed[1]} "
            f"pixels, which its input has not. Received: input shape {tuple(shape)}. Give a larger image."
        )


@keras.saving.register_keras_serializable(package="kseg")
class RarefiedConv2D(keras.layers.Conv2D):
    """A valid convolution whose dilation is an argument of the call, not of the layer.

    Args:
        filters: number of output channels.
        kernel_size: an integer, or `(vertical, horizontal)`.
        **kwargs: those of `keras.layers.Conv2D` (`activation`, `use_bias`, `kernel_initializer`, `name`, ...)
            but for `strides`, `padding`, `dilation_rate`, `groups` and `data_format`.

    Call arguments:
        inputs: `(B, H, W, C)`.
        rate: distance of neighbouring taps in pixels, a positive integer. It is stored with the graph.

    Returns:
        `(B, H - (k - 1) * rate, W - (k - 1) * rate, filters)`.

    Raises:
        UsageError: for a strided, padded or grouped form, or an input smaller than the filter.

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", section 3.2
        (filter rarefaction).
    """

    def __init__(self, filters: int, kernel_size: int | tuple[int, int], **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **kwargs)
        form = (self.strides, self.padding, self.dilation_rate, self.groups, self.data_format)
        if form != ((1, 1), "valid", (1, 1), 1, "channels_last"):
            raise UsageError(
                "RarefiedConv2D is a valid, ungrouped, channels-last convolution of stride 1; its dilation "
                f"is the call argument `rate`. Received: strides={self.strides}, padding={self.padding!r}, "
                f"dilation_rate={self.dilation_rate}, groups={self.groups}, data_format={self.data_format!r}"
            )

    def _output_shape(self, input_shape: tuple, rate: int) -> tuple:
        sizes = [
            _valid(size, taps, rate) for size, taps in zip(input_shape[1:3], self.kernel_size, strict=True)
        ]
        _check_size(self, input_shape, sizes, self.kernel_size, rate)
        return (input_shape[0], *sizes, self.filters)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape at rate 1."""
        return self._output_shape(input_shape, 1)

    def compute_output_spec(self, inputs: Any, rate: int = 1) -> keras.KerasTensor:
        shape = self._output_shape(tuple(inputs.shape), whole(rate, "RarefiedConv2D", "rate"))
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def call(self, inputs: Any, rate: int = 1) -> Any:
        outputs = ops.conv(
            inputs,
            self.kernel,
            padding="valid",
            dilation_rate=whole(rate, "RarefiedConv2D", "rate"),
            data_format="channels_last",
        )
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@keras.saving.register_keras_serializable(package="kseg")
class RarefiedMaxPooling2D(keras.layers.Layer):
    """A valid max-pooling that is strided or dense, and whose window is spread out, as the call says.

    Args:
        pool_size: side of the window, which is also the stride of the strided form; an integer, or
            `(vertical, horizontal)`.

    Call arguments:
        inputs: `(B, H, W, C)`.
        rate: distance of neighbouring members of a window in pixels.
        dense: False: windows follow each other without overlap (rest rows and columns are left out, as in
            `keras.layers.MaxPooling2D`). True: a window begins at every `step`-th pixel.
        step: distance of the windows of the dense form in pixels.

    Returns:
        Strided: `(B, floor((H - (p - 1) * rate - 1) / p) + 1, ..., C)`; dense: the same with `step` for p.

    Raises:
        UsageError: for an input smaller than a window.
    """

    def __init__(self, pool_size: int | tuple[int, int] = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "RarefiedMaxPooling2D", "pool_size")

    def _steps(self, dense: bool, step: int) -> tuple[int, int]:
        step = whole(step, "RarefiedMaxPooling2D", "step")
        return (step, step) if dense else self.pool_size

    def compute_output_spec(
        self, inputs: Any, rate: int = 1, dense: bool = False, step: int = 1
    ) -> keras.KerasTensor:
        batch, height, width, channels = inputs.shape
        rate = whole(rate, "RarefiedMaxPooling2D", "rate")
        sizes = [
            _valid(size, members, rate, stride)
            for size, members, stride in zip(
                (height, width), self.pool_size, self._steps(dense, step), strict=True
            )
        ]
        _check_size(self, inputs.shape, sizes, self.pool_size, rate)
        return keras.KerasTensor((batch, *sizes, channels), dtype=self.compute_dtype)

    def call(self, inputs: Any, rate: int = 1, dense: bool = False, step: int = 1) -> Any:
        rate, steps = whole(rate, "RarefiedMaxPooling2D", "rate"), self._steps(dense, step)
        if rate == 1:
            return ops.max_pool(
                inputs, self.pool_size, strides=steps, padding="valid", data_format="channels_last"
            )
        # Runtimes have no dilated max-pooling. The maximum of n members is that of two overlapping runs of
        # about n / 2, so that few shifted copies are compared.
        x = inputs
        reached = [1, 1]
        while reached[0] < self.pool_size[0]:
            shift = min(reached[0], self.pool_size[0] - reached[0])
            x = ops.maximum(x[:, : -shift * rate, :, :], x[:, shift * rate :, :, :])
            reached[0] += shift
        while reached[1] < self.pool_size[1]:
            shift = min(reached[1], self.pool_size[1] - reached[1])
            x = ops.maximum(x[:, :, : -shift * rate, :], x[:, :, shift * rate :, :])
            reached[1] += shift
        return x if steps == (1, 1) else x[:, :: steps[0], :: steps[1], :]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size}
