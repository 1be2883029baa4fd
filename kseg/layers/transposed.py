"""Transposed convolution, with the bilinear kernels that FCN starts from.

With one kernel per channel no dense C x C kernel is made, of which all but the diagonal would be zero
(1,806,336 constants in FCN-32s). Two forms are used, both of operations that every runtime has and that
accept unknown height and width:

- The fixed bilinear kernel of size 2 f and stride f is the half-pixel bilinear resize whose border fades to
  zero; so it is computed as that resize, which every runtime has a fast kernel for.
- Otherwise a transposed convolution of stride s is s * s small convolutions, one for each phase of the
  output, whose results interleave: one small matrix product per channel, and a transposition.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import pair, whole
from kseg.errors import UsageError
from kseg.layers.resampling import resize
from kseg.layers.transposed_sizes import Phases, SizeRule, checked_output_padding, checked_padding


def bilinear_line(size: int) -> np.ndarray:
    """Return the one-dimensional bilinear kernel of `size` taps, float32 (`size`,)."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    return (1 - np.abs(np.arange(size) - center) / factor).astype("float32")


def bilinear_kernel(size: int | tuple[int, int]) -> np.ndarray:
    """Return the bilinear interpolation kernel by Caffe's rule, as FCN's `surgery.py` has it.

    With `f = (size + 1) // 2` and the centre at `f - 1` (odd size) or `f - 0.5` (even size), the weight at
    i is `1 - |i - centre| / f`; the kernel is the outer product. Its sum is `f * f` when size is `2 f` or
    `2 f - 1`. As a transposed convolution of stride f it enlarges f times.

    Args:
        size: an integer, or `(height, width)`.

    Returns:
        float32 array `(height, width)`.
    """
    height, width = pair(size, "bilinear_kernel", "size")
    return np.outer(bilinear_line(height), bilinear_line(width))


def _border_fade(size: Any, factor: int) -> Any:
    """What the bilinear kernel leaves of a constant: 1 inside, sinking to about 1/2 at both ends, (size,)."""
    place = (ops.cast(ops.arange(size), "float32") + 0.5) / factor + 0.5
    return ops.minimum(1.0, ops.minimum(place, ops.flip(place)))


@keras.saving.register_keras_serializable(package="kseg")
class TransposedConv(keras.layers.Layer):
    """Transposed convolution with bilinear kernels: fixed, learnable per channel, or ordinary.

    - `filters=None`, not learnable (the default): bilinear enlargement, the same kernel for every channel,
      no weights. FCN's fixed deconvolution.
    - `filters=None, learnable=True`: one kernel per channel, `(kh, kw, C)` weights.
    - `filters=N`: an ordinary transposed convolution, `(kh, kw, N, C)` weights.

    Sizes along one axis, for n inputs, kernel k, stride s:

    | padding | output_padding | result | left out in front |
    |---|---|---|---|
    | `"same"` | None | `s n` | `max(k - s, 0) // 2` |
    | `"valid"` | None | `s n + max(k - s, 0)` | 0 |
    | `p` | `q`, None is 0 | `s (n - 1) + k - 2 p + q` (Caffe, PyTorch) | `p` |
    | `"valid"` | `q` | `s (n - 1) + k + q` (Keras) | 0 |
    | `"same"` | `q` | `s (n - 1) + k - 2 (k // 2) + q` (Keras) | `(2 (k // 2) - q) // 2` |

    To enlarge f times take `kernel_size=2 * f, strides=f`; `padding="same"` is then aligned with half-pixel
    bilinear resizing, apart from a border of f / 2 pixels that the kernel fades to zero; `padding=0` and
    `"valid"` are Caffe's form without padding. The odd kernel of the factor f is `2 * f - 1`.

    Args:
        filters: output channels, or None for one kernel per channel.
        kernel_size: an integer, or `(height, width)`.
        strides: an integer, or `(vertical, horizontal)`.
        padding: `"same"`, `"valid"`, or what is left out at each end: an integer below the kernel size, or
            `(vertical, horizontal)`.
        bilinear: start from `bilinear_kernel` (on the diagonal when `filters` is given); otherwise from
            `kernel_initializer`.
        use_bias: add a bias per output channel.
        trainable: as in every layer; for `filters=None`, True is short for `learnable=True`.
        learnable: whether the kernel is a weight. Always true when `filters` is given.
        output_padding: further outputs at the bottom and right, an integer below the stride, or
            `(vertical, horizontal)`; None: what the first two rows of the table say.
        kernel_initializer: of a kernel that does not start bilinear; default Glorot's uniform distribution.

    Returns:
        `(B, H', W', filters or C)`.

    Raises:
        UsageError: for a value out of range, or an input of which nothing is left.

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", section 3.3.
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_size: int | tuple[int, int] = 4,
        strides: int | tuple[int, int] = 2,
        padding: str | int | tuple[int, int] = "same",
        bilinear: bool = True,
        use_bias: bool = False,
        trainable: bool | None = None,
        learnable: bool | None = None,
        output_padding: int | tuple[int, int] | None = None,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        if learnable is None:
            learnable = filters is not None or bool(trainable)
        super().__init__(trainable=learnable if trainable is None else trainable, **kwargs)
        if filters is not None:
            filters = whole(filters, "TransposedConv", "filters")
        if not learnable and (filters is not None or not bilinear or use_bias):
            raise UsageError(
                "TransposedConv without weights (learnable=False) is the fixed bilinear kernel: it takes "
                "filters=None, bilinear=True, use_bias=False. "
                f"Received: filters={filters!r}, bilinear={bilinear}, use_bias={use_bias}"
            )
        self.filters = filters
        self.kernel_size = pair(kernel_size, "TransposedConv", "kernel_size")
        self.strides = pair(strides, "TransposedConv", "strides")
        self.padding = checked_padding(padding, self.kernel_size)
        self.output_padding = checked_output_padding(output_padding, self.strides)
        self.bilinear = bilinear
        self.use_bias = use_bias
        self.learnable = learnable
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel: Any = None
        self.bias: Any = None

    @property
    def rules(self) -> tuple[SizeRule, SizeRule]:
        """Size rules of height and width."""
        paddings = (self.padding, self.padding) if isinstance(self.padding, str) else self.padding
        further = self.output_padding or (None, None)

        def rule(axis: int) -> SizeRule:
            return SizeRule.of(self.kernel_size[axis], self.strides[axis], paddings[axis], further[axis])

        return rule(0), rule(1)

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        if channels is None:
            raise UsageError(f"TransposedConv needs a known number of channels. Received: {input_shape}")
        if not self.learnable:
            self.kernel = bilinear_kernel(self.kernel_size)[..., None]
        else:
            shape: tuple[int, ...] = (*self.kernel_size, channels)
            if self.filters is not None:
                shape = (*self.kernel_size, self.filters, channels)
            initializer = self._bilinear_values if self.bilinear else self.kernel_initializer
            self.kernel = self.add_weight(shape=shape, initializer=initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters or channels,), initializer="zeros", name="bias")
        self.built = True

    def _bilinear_values(self, shape: tuple, dtype: Any = None) -> Any:
        kernel = bilinear_kernel(self.kernel_size)
        if self.filters is None:
            values = np.repeat(kernel[..., None], shape[-1], axis=-1)
        else:
            values = np.zeros(shape, "float32")
            for channel in range(min(shape[-2:])):
                values[:, :, channel, channel] = kernel
        return ops.convert_to_tensor(values, dtype=dtype or "float32")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        sizes = [rule.size(size) for rule, size in zip(self.rules, (height, width), strict=True)]
        return (batch, *sizes, self.filters or channels)

    def call(self, inputs: Any) -> Any:
        if self.filters is not None:
            outputs = self._dense(inputs)
        elif not self.learnable and self._resizes():
            outputs = self._resized(inputs)
        else:
            outputs = self._by_phases(inputs)
        return outputs if self.bias is None else ops.add(outputs, ops.cast(self.bias, outputs.dtype))

    def _resizes(self) -> bool:
        """Whether the fixed kernel is a half-pixel resize: size 2 f, even stride f, nothing to add behind."""
        return all(
            rule.kernel == 2 * rule.stride and rule.stride % 2 == 0 and rule.behind > -rule.stride // 2
            for rule in self.rules
        )

    def _resized(self, inputs: Any) -> Any:
        """Half-pixel resize with the fading border of the transposed convolution."""
        rows, columns = self.strides
        if any((rule.start, rule.longer) != (rule.stride // 2, 0) for rule in self.rules):
            x = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = resize(x, ops.shape(x)[1] * rows, ops.shape(x)[2] * columns)
            # The resize reaches half a stride further than the transposed convolution on each side.
            kept = [
                slice(rule.stride // 2 + rule.start, -(rule.stride // 2 + rule.behind)) for rule in self.rules
            ]
            return x[:, kept[0], kept[1], :]
        _, height, width, _ = ops.shape(inputs)
        x = resize(inputs, height * rows, width * columns)
        vertical = ops.cast(_border_fade(height * rows, rows), x.dtype)
        horizontal = ops.cast(_border_fade(width * columns, columns), x.dtype)
        return x * (ops.reshape(vertical, (1, -1, 1, 1)) * ops.reshape(horizontal, (1, 1, -1, 1)))

    def _by_phases(self, inputs: Any) -> Any:
        """Any kernel `(kh, kw, C)`, or `(kh, kw, 1)` for the same kernel in every channel."""
        rows, columns = (Phases.plan(rule) for rule in self.rules)
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), inputs.dtype)
        kernel = ops.pad(kernel, ((rows.lead, rows.tail), (columns.lead, columns.tail), (0, 0)))
        kernel = ops.reshape(kernel, (rows.taps, self.strides[0], columns.taps, self.strides[1], -1))
        kernel = ops.reshape(
            ops.transpose(kernel, (4, 0, 2, 1, 3)),
            (-1, rows.taps * columns.taps, self.strides[0] * self.strides[1]),
        )
        channels = inputs.shape[-1]
        x = ops.transpose(inputs, (3, 0, 1, 2))
        x = ops.pad(x, ((0, 0), (0, 0), (rows.before, rows.after), (columns.before, columns.after)))
        # Tap a of an output block sees the input a places before it: the last window comes first.
        windows = [
            x[:, :, i : i + 1 - rows.taps or None, j : j + 1 - columns.taps or None]
            for i in reversed(range(rows.taps))
            for j in reversed(range(columns.taps))
        ]
        _, _, height, width = ops.shape(windows[0])
        x = ops.reshape(ops.stack(windows, axis=-1), (channels, -1, len(windows)))
        x = ops.matmul(x, kernel)
        # Batch and rows stay merged, which keeps the transposition at five dimensions.
        x = ops.reshape(x, (channels, -1, width, *self.strides))
        x = ops.transpose(x, (1, 3, 2, 4, 0))
        x = ops.reshape(x, (-1, height * self.strides[0], width * self.strides[1], channels))
        if rows.surplus or columns.surplus:
            x = x[:, : -rows.surplus or None, : -columns.surplus or None, :]
        return x

    def _dense(self, inputs: Any) -> Any:
        if isinstance(self.padding, str) and self.output_padding is None:
            return self._conv_transpose(inputs, self.padding)
        x = self._conv_transpose(inputs, "valid")
        behind = [rule.behind + max(rule.stride - rule.kernel, 0) for rule in self.rules]
        if min(behind) < 0:
            x = ops.pad(x, ((0, 0), *((0, max(-count, 0)) for count in behind), (0, 0)))
        kept = [
            slice(rule.start, -count if count > 0 else None)
            for rule, count in zip(self.rules, behind, strict=True)
        ]
        return x[:, kept[0], kept[1], :]

    def _conv_transpose(self, inputs: Any, padding: str) -> Any:
        return ops.conv_transpose(
            inputs, self.kernel, strides=self.strides, padding=padding, data_format="channels_last"
        )

    def get_config(self) -> dict[str, Any]:
        own = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "bilinear": self.bilinear,
            "use_bias": self.use_bias,
            "learnable": self.learnable,
            "output_padding": self.output_padding,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
        return {**super().get_config(), **own}
