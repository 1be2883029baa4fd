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

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError
from kseg.layers.arguments import pair
from kseg.layers.resampling import resize


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


def output_size(size: Any, kernel: int, stride: int, padding: str) -> Any:
    """Return the size that Keras' transposed convolution gives: `n s`, or `n s + max(k - s, 0)` if valid."""
    if size is None:
        return None
    return size * stride + (max(kernel - stride, 0) if padding == "valid" else 0)


@dataclasses.dataclass(frozen=True)
class _Phases:
    """How one axis of a transposed convolution is cut into phases.

    The output at `s * m + p` is the sum over a of `x[m - a] * kernel[a * s + p]`. `lead` zeros in front of
    the kernel move the wanted part of the output to a whole m, so that it need not be cut out afterwards.

    Args:
        taps: number of input values behind each output value.
        lead: zeros before the kernel.
        tail: zeros behind it, up to `taps * s`.
        before: zeros to put before the input.
        after: zeros to put behind it.
        surplus: output values to drop at the end.
    """

    taps: int
    lead: int
    tail: int
    before: int
    after: int
    surplus: int

    @classmethod
    def plan(cls, kernel: int, stride: int, padding: str) -> _Phases:
        excess = max(kernel - stride, 0)
        start = excess // 2 if padding == "same" else 0
        lead = -start % stride
        taps = -(-(kernel + lead) // stride)
        first = (start + lead) // stride
        longer = excess if padding == "valid" else 0
        blocks = -(-longer // stride)
        return cls(
            taps=taps,
            lead=lead,
            tail=taps * stride - kernel - lead,
            before=taps - 1 - first,
            after=first + blocks,
            surplus=blocks * stride - longer,
        )


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

    Output sizes are those of `keras.layers.Conv2DTranspose`. To enlarge f times take `kernel_size=2 * f,
    strides=f`; `padding="same"` is then aligned with half-pixel bilinear resizing, apart from a border of
    f / 2 pixels that the kernel fades to zero; `padding="valid"` is Caffe's form without padding.

    Args:
        filters: output channels, or None for one kernel per channel.
        kernel_size: an integer, or `(height, width)`.
        strides: an integer, or `(vertical, horizontal)`.
        padding: `"same"` (output `n * s`) or `"valid"` (output `n * s + max(k - s, 0)`).
        bilinear: start from `bilinear_kernel` (on the diagonal when `filters` is given); otherwise from
            Glorot's uniform distribution.
        use_bias: add a bias per output channel.
        trainable: as in every layer; for `filters=None`, True is short for `learnable=True`.
        learnable: whether the kernel is a weight. Always true when `filters` is given.

    Returns:
        `(B, H', W', filters or C)`.

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", section 3.3.
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_size: int | tuple[int, int] = 4,
        strides: int | tuple[int, int] = 2,
        padding: str = "same",
        bilinear: bool = True,
        use_bias: bool = False,
        trainable: bool | None = None,
        learnable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if learnable is None:
            learnable = filters is not None or bool(trainable)
        super().__init__(trainable=learnable if trainable is None else trainable, **kwargs)
        if filters is not None and (not isinstance(filters, int) or filters < 1):
            raise UsageError(
                f"TransposedConv `filters` must be a positive integer or None. Received: {filters!r}"
            )
        if padding not in ("same", "valid"):
            raise UsageError(
                f"TransposedConv `padding` must be 'same' or 'valid'. Received: padding={padding!r}"
            )
        if not learnable and (filters is not None or not bilinear or use_bias):
            raise UsageError(
                "TransposedConv without weights (learnable=False) is the fixed bilinear kernel: it takes "
                "filters=None, bilinear=True, use_bias=False. "
                f"Received: filters={filters!r}, bilinear={bilinear}, use_bias={use_bias}"
            )
        self.filters = filters
        self.kernel_size = pair(kernel_size, "TransposedConv", "kernel_size")
        self.strides = pair(strides, "TransposedConv", "strides")
        self.padding = padding
        self.bilinear = bilinear
        self.use_bias = use_bias
        self.learnable = learnable
        self.kernel: Any = None
        self.bias: Any = None

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
            initializer = self._bilinear_values if self.bilinear else "glorot_uniform"
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
        sizes = [
            output_size(size, kernel, stride, self.padding)
            for size, kernel, stride in zip((height, width), self.kernel_size, self.strides, strict=True)
        ]
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
        """Whether the fixed kernel is a half-pixel resize: size 2 f, even stride f."""
        sizes = zip(self.kernel_size, self.strides, strict=True)
        return all(kernel == 2 * stride and stride % 2 == 0 for kernel, stride in sizes)

    def _resized(self, inputs: Any) -> Any:
        """Half-pixel resize with the fading border of the transposed convolution."""
        rows, columns = self.strides
        if self.padding == "valid":
            x = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = resize(x, ops.shape(x)[1] * rows, ops.shape(x)[2] * columns)
            return x[:, rows // 2 : -(rows // 2), columns // 2 : -(columns // 2), :]
        _, height, width, _ = ops.shape(inputs)
        x = resize(inputs, height * rows, width * columns)
        vertical = ops.cast(_border_fade(height * rows, rows), x.dtype)
        horizontal = ops.cast(_border_fade(width * columns, columns), x.dtype)
        return x * (ops.reshape(vertical, (1, -1, 1, 1)) * ops.reshape(horizontal, (1, 1, -1, 1)))

    def _by_phases(self, inputs: Any) -> Any:
        """Any kernel `(kh, kw, C)`, or `(kh, kw, 1)` for the same kernel in every channel."""
        rows, columns = (
            _Phases.plan(kernel, stride, self.padding)
            for kernel, stride in zip(self.kernel_size, self.strides, strict=True)
        )
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
        return ops.conv_transpose(
            inputs, self.kernel, strides=self.strides, padding=self.padding, data_format="channels_last"
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
        }
        return {**super().get_config(), **own}
