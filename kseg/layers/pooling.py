"""Max-pooling that remembers where its maxima were, the unpooling that uses it, and Caffe's pooling size.

Switches are a 0/1 tensor, not indices: nothing here scatters, gathers or needs int64, so that the graph is
made of operations that TFLite builtins, ONNX and TensorRT all have.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import pair
from kseg.errors import UsageError
from kseg.layers.sizes import times


def _window_members(x: Any, size: tuple[int, int]) -> list[Any]:
    """Split `(B, H, W, C)` into the members of its windows, row by row: each `(B, H/sy, W/sx, C)`."""
    return [x[:, i :: size[0], j :: size[1], :] for i in range(size[0]) for j in range(size[1])]


def _interleave(members: list[Any], size: tuple[int, int]) -> Any:
    """Undo `_window_members`. Concatenation and reshape only, never more than four dimensions."""
    _, height, width, channels = ops.shape(members[0])
    rows = []
    for i in range(size[0]):
        row = ops.concatenate(members[i * size[1] : (i + 1) * size[1]], axis=-1)
        rows.append(ops.reshape(row, (-1, height, width * size[1], channels)))
    return ops.reshape(ops.concatenate(rows, axis=2), (-1, height * size[0], width * size[1], channels))


def _first_maximum(members: list[Any]) -> list[Any]:
    """One-hot of the first largest member, in the dtype of the members.

    Each member is compared with the largest of those after it, and the last takes what is left, so that
    exactly one is chosen even where a runtime rounds the two sides of a comparison differently.
    """
    largest_after = [members[-1]]
    for member in reversed(members[1:-1]):
        largest_after.insert(0, ops.maximum(member, largest_after[0]))
    switches = []
    free = ops.ones_like(members[0])
    for member, after in zip(members[:-1], largest_after, strict=True):
        chosen = free * ops.cast(ops.greater_equal(member, after), member.dtype)
        switches.append(chosen)
        free = free - chosen
    return [*switches, free]


def _soft_maximum(members: list[Any], temperature: float) -> list[Any]:
    """Softmax over the members of each window at `temperature`; the weights of a window sum to 1."""
    largest = members[0]
    for member in members[1:]:
        largest = ops.maximum(largest, member)
    largest = ops.stop_gradient(largest)
    powers = [ops.exp((member - largest) * (1.0 / temperature)) for member in members]
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    return [power / total for power in powers]


@keras.saving.register_keras_serializable(package="kseg")
class MaxPoolWithSwitches(keras.layers.Layer):
    """Max-pooling over windows that do not overlap, which also tells where each maximum was.

    Among equal values the first in row order is chosen, as in Caffe. Height and width must be multiples of
    `pool_size` (`PadToStride` sees to that).

    Args:
        pool_size: an integer, or `(vertical, horizontal)`.
        temperature: None for hard switches (0 or 1, without gradient). A positive number for soft ones:
            the softmax of each window's values divided by it. A network learns with the one or the other:
            what was trained with hard switches does not work with soft ones (see
            `kseg.models.DeconvNet`).

    Returns:
        `(pooled, switches)`: `(B, H / p, W / p, C)` and `(B, H, W, C)` in [0, 1] summing to 1 per window.

    Reference:
        Noh, Hong, Han, "Learning Deconvolution Network for Semantic Segmentation", section 3.2.1.
    """

    def __init__(
        self, pool_size: int | tuple[int, int] = 2, temperature: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "MaxPoolWithSwitches", "pool_size")
        if self.pool_size == (1, 1):
            raise UsageError("MaxPoolWithSwitches `pool_size` must cover more than one pixel. Received: 1")
        if temperature is not None and not temperature > 0:
            raise UsageError(
                "MaxPoolWithSwitches `temperature` must be None (hard switches) or positive. "
                f"Received: temperature={temperature!r}"
            )
        self.temperature = temperature

    def build(self, input_shape: tuple) -> None:
        for name, size, step in zip(("height", "width"), input_shape[1:3], self.pool_size, strict=True):
            if size is not None and size % step:
                raise UsageError(
                    f"MaxPoolWithSwitches needs a {name} that is a multiple of {step}. Received: input shape "
                    f"{tuple(input_shape)}. Put PadToStride before the network."
                )
        self.built = True

    def compute_output_shape(self, input_shape: tuple) -> tuple[tuple, tuple]:
        batch, height, width, channels = input_shape
        pooled = [
            None if size is None else size // step
            for size, step in zip((height, width), self.pool_size, strict=True)
        ]
        return (batch, *pooled, channels), (batch, height, width, channels)

    def call(self, inputs: Any) -> tuple[Any, Any]:
        pooled = ops.max_pool(inputs, self.pool_size, strides=self.pool_size, data_format="channels_last")
        if self.temperature is None:
            switches = _first_maximum(_window_members(ops.stop_gradient(inputs), self.pool_size))
        else:
            switches = _soft_maximum(_window_members(inputs, self.pool_size), self.temperature)
        return pooled, _interleave(switches, self.pool_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size, "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="kseg")
class Unpool(keras.layers.Layer):
    """Puts every value back where `MaxPoolWithSwitches` took it from; zeros elsewhere.

    Given one tensor and no switches, every value goes to the top left corner of its window.

    Args:
        pool_size: an integer, or `(vertical, horizontal)`: that of the pooling.

    Call arguments:
        inputs: `[x, switches]`, x `(B, h, w, C)` and switches `(B, h * p, w * p, C)`; or x alone.

    Returns:
        `(B, h * p, w * p, C)`.
    """

    def __init__(self, pool_size: int | tuple[int, int] = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "Unpool", "pool_size")

    def compute_output_shape(self, input_shape: Any) -> tuple:
        x = input_shape[0] if isinstance(input_shape[0], (tuple, list)) else input_shape
        return (x[0], times(x[1], self.pool_size[0]), times(x[2], self.pool_size[1]), x[3])

    def call(self, inputs: Any) -> Any:
        copies = self.pool_size[0] * self.pool_size[1]
        if isinstance(inputs, (tuple, list)):
            x, switches = inputs
            return _interleave([x] * copies, self.pool_size) * switches
        return _interleave([inputs, *[ops.zeros_like(inputs)] * (copies - 1)], self.pool_size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size}


@keras.saving.register_keras_serializable(package="kseg")
class CeilMaxPooling2D(keras.layers.Layer):
    """Max-pooling whose output size is rounded up, as Caffe does: `ceil((n - pool) / stride) + 1`.

    Windows that reach over the bottom or right border see copies of the last row or column, which changes
    no maximum. (Padding with minus infinity would give the same values, but spoil int8 ranges.)

    Args:
        pool_size: an integer, or `(vertical, horizontal)`; at least `strides`.
        strides: an integer, or `(vertical, horizontal)`.
    """

    def __init__(
        self, pool_size: int | tuple[int, int] = 3, strides: int | tuple[int, int] = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "CeilMaxPooling2D", "pool_size")
        self.strides = pair(strides, "CeilMaxPooling2D", "strides")
        if self.pool_size[0] < self.strides[0] or self.pool_size[1] < self.strides[1]:
            raise UsageError(
                "CeilMaxPooling2D `pool_size` must be at least `strides`. "
                f"Received: pool_size={self.pool_size}, strides={self.strides}"
            )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = [
            None if size is None else -(-(size - pool) // step) + 1
            for size, pool, step in zip(input_shape[1:3], self.pool_size, self.strides, strict=True)
        ]
        return (input_shape[0], *sizes, input_shape[3])

    def call(self, inputs: Any) -> Any:
        x = inputs
        if self.strides[0] > 1:
            x = ops.concatenate([x, *[x[:, -1:, :, :]] * (self.strides[0] - 1)], axis=1)
        if self.strides[1] > 1:
            x = ops.concatenate([x, *[x[:, :, -1:, :]] * (self.strides[1] - 1)], axis=2)
        return ops.max_pool(x, self.pool_size, strides=self.strides, data_format="channels_last")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size, "strides": self.strides}
