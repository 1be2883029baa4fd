"""Transposed convolution, with the bilinear kernels that FCN starts from.

A transposed convolution of stride s is s * s small convolutions, one for each phase of the output, whose
results interleave. With one kernel per channel that is a handful of multiply-adds on shifted copies of the
input, instead of a dense C x C kernel of which all but the diagonal is zero (1,806,336 constants in
FCN-32s). The fixed bilinear kernel is moreover the outer product of two vectors, and so is done in two
passes, vertical and horizontal. Only pad, slice, multiply, add and reshape are used: no runtime lacks them,
and height and width may be unknown.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError
from kseg.layers.arguments import pair


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


def _shifted(x: Any, axis: int, taps: int) -> list[Any]:
    """Pad `axis` with `taps - 1` zeros on both sides; return the `taps` windows, each n + taps - 1 long."""
    if taps == 1:
        return [x]
    margin = [(0, 0)] * 4
    margin[axis] = (taps - 1, taps - 1)
    padded = ops.pad(x, margin)
    windows = []
    for start in range(taps):
        index: list[slice] = [slice(None)] * 4
        index[axis] = slice(start, start - taps + 1 if start < taps - 1 else None)
        windows.append(padded[tuple(index)])
    return windows


def _phases(kernel: Any, stride: int) -> np.ndarray:
    """Arrange a kernel line of k weights as `(taps, stride)` in the order of `_shifted`'s windows."""
    taps = -(-len(kernel) // stride)
    padded = np.zeros(taps * stride, "float32")
    padded[: len(kernel)] = kernel
    return padded.reshape(taps, stride)[::-1].copy()


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
            self.kernel = bilinear_kernel(self.kernel_size)
        else:
            shape = (*self.kernel_size, channels)
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
        elif self.learnable:
            outputs = self._per_channel(inputs)
        else:
            outputs = self._fixed(inputs)
        return outputs if self.bias is None else ops.add(outputs, ops.cast(self.bias, outputs.dtype))

    def _fixed(self, inputs: Any) -> Any:
        """Vertical pass, then horizontal: the bilinear kernel is an outer product."""
        x = inputs
        for axis in (1, 2):
            x = self._enlarged(x, axis)
        return x

    def _enlarged(self, x: Any, axis: int) -> Any:
        """Transposed convolution along one axis of `(B, H, W, C)` with the bilinear line."""
        stride = self.strides[axis - 1]
        line = bilinear_line(self.kernel_size[axis - 1])
        shape = [1, 1, 1, 1, 1]
        shape[axis + 1] = stride
        total = None
        windows = _shifted(x, axis, -(-len(line) // stride))
        for window, weights in zip(windows, _phases(line, stride), strict=True):
            term = ops.expand_dims(window, axis + 1) * ops.cast(weights.reshape(shape), x.dtype)
            total = term if total is None else total + term
        sizes: list[Any] = [-1, *ops.shape(windows[0])[1:]]
        sizes[axis] = sizes[axis] * stride
        return self._crop(ops.reshape(total, sizes), ops.shape(x)[axis], axis)

    def _per_channel(self, inputs: Any) -> Any:
        """Both axes at once, with the kernel of each channel."""
        taps = [-(-k // s) for k, s in zip(self.kernel_size, self.strides, strict=True)]
        missing = [t * s - k for t, s, k in zip(taps, self.strides, self.kernel_size, strict=True)]
        kernel = ops.pad(self.kernel, ((0, missing[0]), (0, missing[1]), (0, 0)))
        kernel = ops.reshape(kernel, (taps[0], self.strides[0], taps[1], self.strides[1], -1))
        channels = inputs.shape[-1]
        total = None
        for row, line in enumerate(_shifted(inputs, 1, taps[0])):
            for column, window in enumerate(_shifted(line, 2, taps[1])):
                _, height, width, _ = ops.shape(window)
                # Five dimensions at most (batch and rows merged): TFLite has no more in a multiplication.
                window = ops.reshape(window, (-1, 1, width, 1, channels))
                weights = kernel[taps[0] - 1 - row, :, taps[1] - 1 - column, :, :]
                term = window * ops.reshape(weights, (1, self.strides[0], 1, self.strides[1], channels))
                total = term if total is None else total + term
        x = ops.reshape(total, (-1, height * self.strides[0], width * self.strides[1], channels))
        for axis in (1, 2):
            x = self._crop(x, ops.shape(inputs)[axis], axis)
        return x

    def _crop(self, x: Any, size_in: Any, axis: int) -> Any:
        """Cut what `padding` leaves of the full result along `axis`."""
        kernel, stride = self.kernel_size[axis - 1], self.strides[axis - 1]
        size = output_size(size_in, kernel, stride, self.padding)
        if isinstance(size, int) and x.shape[axis] == size:
            return x
        start = max(kernel - stride, 0) // 2 if self.padding == "same" else 0
        index: list[slice] = [slice(None)] * 4
        index[axis] = slice(start, start + size)
        return x[tuple(index)]

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
