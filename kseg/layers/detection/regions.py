"""Features of regions: a grid of samples inside each box, linear in the features and in the boxes' corners.

Both layers are two products with matrices of sampling weights, one for rows and one for columns: bilinear
sampling on a grid is separable. Nothing is gathered, so every runtime has it and gradients reach the boxes.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import pair, whole


def tent(positions: Any, size: Any) -> Any:
    """Return the bilinear weights `(..., size)` of positions `(...)` on a line of so many pixels."""
    pixels = ops.cast(ops.arange(size), positions.dtype)
    return ops.maximum(1 - ops.abs(positions[..., None] - pixels), 0)


def aligned_samples(low: Any, high: Any, count: int, size: Any) -> tuple[Any, Any]:
    """Return where `RoIAlign` samples an axis, and which samples lie in the features, `(..., count)` each.

    Args:
        low, high: borders of the boxes, `(...)`, in pixels of the features.
        count: samples.
        size: pixels of the axis, float32; `(..., 1)` where it is not the same for all.
    """
    steps = (ops.arange(count, dtype="float32") + 0.5) / count
    positions = low[..., None] - 0.5 + (high - low)[..., None] * steps
    inside = ops.cast(ops.logical_and(positions >= -1, positions <= size), "float32")
    return ops.clip(positions, 0, size - 1), inside


def _sampled(features: Any, rows: Any, columns: Any) -> Any:
    """Return `(B, N, P, Q, C)` from features `(B, H, W, C)`, weights `(B, N, P, H)` and `(B, N, Q, W)`."""
    by_rows = ops.einsum("bnph,bhwc->bnpwc", rows, features)
    return ops.einsum("bnqw,bnpwc->bnpqc", columns, by_rows)


class _Regions(keras.layers.Layer):
    def __init__(self, size: int | tuple[int, int], stride: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = pair(size, type(self).__name__, "size")
        self.stride = float(stride)

    def compute_output_shape(self, features_shape: tuple, boxes_shape: tuple) -> tuple:
        return (boxes_shape[0], boxes_shape[1], *self.size, features_shape[-1])

    def call(self, features: Any, boxes: Any) -> Any:
        _, height, width, _ = ops.shape(features)
        # Corners in float32: half precision tells no thousandth of a pixel apart.
        boxes = ops.cast(boxes, "float32") / self.stride
        rows = self._weights(boxes[..., 0], boxes[..., 2], self.size[0], height)
        columns = self._weights(boxes[..., 1], boxes[..., 3], self.size[1], width)
        return _sampled(features, ops.cast(rows, features.dtype), ops.cast(columns, features.dtype))

    def _weights(self, low: Any, high: Any, bins: int, size: Any) -> Any:
        """Return `(B, N, bins, size)`: what each bin takes of each of the `size` rows or columns."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable(package="kseg")
class RoIAlign(_Regions):
    """The mean of bilinear samples in each bin of each box (He et al., Mask R-CNN, ICCV 2017, section 3).

    As torchvision's `roi_align` with `aligned=True`: pixel centres at +0.5; a sample more than a pixel
    outside of the features is 0, one less far takes the border's value.

    Args:
        size: bins `(rows, columns)`.
        stride: pixels of the image per pixel of the features.
        samples: per bin and axis.

    Returns:
        `(B, N, rows, columns, C)` for features `(B, H, W, C)` and boxes `(B, N, 4)` in pixels of the image.
    """

    def __init__(self, size: int | tuple[int, int], stride: float, samples: int = 2, **kwargs: Any) -> None:
        super().__init__(size, stride, **kwargs)
        self.samples = whole(samples, "RoIAlign", "samples")

    def _weights(self, low: Any, high: Any, bins: int, size: Any) -> Any:
        positions, inside = aligned_samples(low, high, bins * self.samples, ops.cast(size, "float32"))
        weights = tent(positions, size) * inside[..., None]
        shape = ops.shape(weights)
        return ops.mean(ops.reshape(weights, (*shape[:-2], bins, self.samples, shape[-1])), axis=-2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "samples": self.samples}


@keras.saving.register_keras_serializable(package="kseg")
class RoIWarp(_Regions):
    """One bilinear sample per bin of each box (Dai et al., MNC, CVPR 2016, section 3.2, equations 3 to 5).

    Bin `u'` of W' samples the features at `x + u' w / W'`: a box of the whole map with as many bins gives
    the map. What lies outside of the features is 0. The answer has a derivative by the corners, which
    end-to-end training of cascades needs. MNC takes 28 x 28 samples and pools the largest of each 2 x 2.

    Args:
        size: bins `(rows, columns)`.
        stride: pixels of the image per pixel of the features.

    Returns:
        `(B, N, rows, columns, C)` for features `(B, H, W, C)` and boxes `(B, N, 4)` in pixels of the image.
    """

    def _weights(self, low: Any, high: Any, bins: int, size: Any) -> Any:
        steps = ops.arange(bins, dtype="float32") / bins
        return tent(low[..., None] + (high - low)[..., None] * steps, size)
