"""TextonBoost's 17 filters as two fixed convolutions per scale, a vertical and a horizontal one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import Range, flag, pair
from kseg.errors import UsageError
from kseg.layers.sizes import middle

L = 0  # the channel of lightness in CIELab
GAUSSIANS = (1.0, 2.0, 4.0)  # on L, a and b
DERIVATIVES = (2.0, 4.0)  # in x and in y, on L
LAPLACIANS = (1.0, 2.0, 4.0, 8.0)  # on L
# Sigma of the Gaussians that Krähenbühl's code calls 4 and 8 (its FilterBank constructor).
QUIRKS = {4.0: 3.0, 8.0: 4.0}


def gaussian_line(sigma: float) -> np.ndarray:
    """Return a sampled Gaussian of `2 * ceil(3 * sigma) + 1` taps whose sum is 1, float64."""
    x = _positions(sigma)
    values = np.exp(-0.5 * (x / sigma) ** 2)
    return values / values.sum()


def derivative_line(sigma: float) -> np.ndarray:
    """Return `sigma` times the first derivative of the Gaussian, as taps of a correlation whose sum is 0.

    A ramp of slope 1 per sigma gives 1, but for the cut at three sigma.
    """
    return _positions(sigma) / sigma * gaussian_line(sigma)


def second_derivative_line(sigma: float) -> np.ndarray:
    """Return `sigma ** 2` times the second derivative of the Gaussian, as taps whose sum is 0.

    What the cut at three sigma leaves over is taken away in the shape of the Gaussian, so that the filter
    answers 0 to every constant.
    """
    smooth = gaussian_line(sigma)
    values = (_positions(sigma) ** 2 / sigma**2 - 1) * smooth
    return values - values.sum() * smooth


def _positions(sigma: float) -> np.ndarray:
    radius = math.ceil(3 * sigma)
    return np.arange(-radius, radius + 1, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class Filter:
    """One response: a sum of products of a vertical and a horizontal line, on one channel.

    Args:
        name: for example `"gaussian_2_a"`.
        channel: 0 for L, 1 for a, 2 for b.
        terms: `(vertical, horizontal)` lines of odd length.
    """

    name: str
    channel: int
    terms: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def radius(self) -> int:
        """Pixels that the filter reaches on each side."""
        return max(len(line) // 2 for term in self.terms for line in term)

    def kernel(self) -> np.ndarray:
        """Return the whole filter `(2 * radius + 1, 2 * radius + 1)`, float64."""
        size = 2 * self.radius + 1
        terms = [np.outer(_centred(rows, size), _centred(columns, size)) for rows, columns in self.terms]
        return np.sum(terms, axis=0)


def _centred(line: np.ndarray, size: int) -> np.ndarray:
    """Put a line in the middle of `size` zeros."""
    return np.pad(line, (size - len(line)) // 2)


def scales(kappa: float = 1.0, quirks: bool = False) -> list[list[Filter]]:
    """Return the 17 filters by scale (1, 2, 4, 8): Gaussians, derivatives in x and y, Laplacian.

    Args:
        kappa: factor on every sigma.
        quirks: as in Krähenbühl's code, whose Gaussians called 4 and 8 have sigma 3 and 4. They are the third
            Gaussian on each channel, and what smooths the derivatives of sigma 4 and 8 across.
    """
    result = []
    for sigma in LAPLACIANS:
        filters = []
        smooth = gaussian_line(kappa * (QUIRKS.get(sigma, sigma) if quirks else sigma))
        if sigma in GAUSSIANS:
            for channel, letter in enumerate("Lab"):
                filters.append(Filter(f"gaussian_{sigma:g}_{letter}", channel, ((smooth, smooth),)))
        if sigma in DERIVATIVES:
            slope = derivative_line(kappa * sigma)
            filters.append(Filter(f"derivative_x_{sigma:g}", L, ((smooth, slope),)))
            filters.append(Filter(f"derivative_y_{sigma:g}", L, ((slope, smooth),)))
        curve = second_derivative_line(kappa * sigma)
        filters.append(Filter(f"laplacian_{sigma:g}", L, ((curve, smooth), (smooth, curve))))
        result.append(filters)
    return result


def _two_kernels(filters: list[Filter]) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertical kernel (n, 1, 3, m) and the horizontal one (1, n, m, filters) of one scale.

    The m inner channels are the distinct (channel, vertical line) pairs.
    """
    size = 2 * max(item.radius for item in filters) + 1
    inner: dict[tuple[int, bytes], int] = {}
    lines: list[tuple[int, np.ndarray]] = []
    across = []
    for index, item in enumerate(filters):
        for rows, columns in item.terms:
            key = (item.channel, rows.tobytes())
            if key not in inner:
                inner[key] = len(lines)
                lines.append((item.channel, rows))
            across.append((inner[key], index, columns))
    vertical = np.zeros((size, 1, 3, len(lines)), np.float32)
    for place, (channel, rows) in enumerate(lines):
        vertical[:, 0, channel, place] = _centred(rows, size)
    horizontal = np.zeros((1, size, len(lines), len(filters)), np.float32)
    for place, index, columns in across:
        horizontal[0, :, place, index] = _centred(columns, size)
    return vertical, horizontal


@keras.saving.register_keras_serializable(package="kseg")
class FilterBank(keras.layers.Layer):
    """Seventeen fixed filters on CIELab, without a weight.

    Gaussians of sigma 1, 2, 4 on L, a and b (9); their first derivatives in x and y of sigma 2, 4 on L (4);
    Laplacians of Gaussians of sigma 1, 2, 4, 8 on L (4), each out to `ceil(3 sigma)` pixels. Every filter is
    separable, so a scale costs one vertical and one horizontal convolution with few inner channels. It is
    "valid": mirror the border by `FilterBank.radius` pixels before (`MirrorBorder`).

    Derivatives are multiplied by sigma and Laplacians by its square, which gives them about equal spreads at
    all scales (a whitening takes any factor out again).

    Args:
        kappa: factor on every sigma; 1 in the paper, for images of about 320 x 213.
        stride: responses are given at every `stride`-th pixel only, each in the middle of its `stride` x
            `stride` block (for an even stride the first of the two in the middle); an integer or a pair.
        quirks: see `scales`.

    Returns:
        float32 `(B, (H - 2 radius) / stride, (W - 2 radius) / stride, 17)` for Lab `(B, H, W, 3)`; of a
        last block that is cut off before its middle there is no response. `names` tells the order.

    Raises:
        UsageError: for a kappa that is not positive, or an input without three channels.

    Reference:
        Shotton, Winn, Rother, Criminisi, "TextonBoost", ECCV 2006; the sigmas as in Krähenbühl's code.
    """

    def __init__(
        self, kappa: float = 1.0, stride: int | tuple[int, int] = 1, quirks: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.kappa = float(Range(0, 16, above=True).check(kappa, "kappa", "FilterBank"))
        self.stride = pair(stride, "FilterBank", "stride")
        self.quirks = flag(quirks, "FilterBank", "quirks")
        self._scales = scales(self.kappa, self.quirks)
        self._kernels = [_two_kernels(filters) for filters in self._scales]

    @property
    def radius(self) -> int:
        """Pixels that the widest filter reaches on each side: 24 at kappa 1."""
        return max(item.radius for filters in self._scales for item in filters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the 17 responses in the order of the output."""
        return tuple(item.name for filters in self._scales for item in filters)

    def build(self, input_shape: tuple) -> None:
        if len(input_shape) != 4 or input_shape[-1] != 3:
            raise UsageError(f"FilterBank takes CIELab images (B, H, W, 3). Received: shape {input_shape}")
        for name, size in zip(("height", "width"), input_shape[1:3], strict=True):
            if size is not None and size <= 2 * self.radius:
                raise UsageError(
                    f"FilterBank reaches {self.radius} pixels on each side, so its input needs a {name} "
                    f"above {2 * self.radius}. Received: shape {tuple(input_shape)}. "
                    "Put MirrorBorder before it"
                )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        sizes = [
            None if size is None else -(-(size - 2 * self.radius - middle(step)) // step)
            for size, step in zip(input_shape[1:3], self.stride, strict=True)
        ]
        return (input_shape[0], *sizes, len(self.names))

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = ops.shape(inputs)
        down, right = (middle(step) for step in self.stride)
        results = []
        for vertical, horizontal in self._kernels:
            margin = self.radius - vertical.shape[0] // 2
            x = inputs[:, margin + down : height - margin, margin + right : width - margin, :]
            x = ops.conv(x, vertical, (self.stride[0], 1), "valid", data_format="channels_last")
            results.append(ops.conv(x, horizontal, (1, self.stride[1]), "valid", data_format="channels_last"))
        return ops.concatenate(results, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kappa": self.kappa,
            "stride": self.stride,
            "quirks": self.quirks,
        }
