"""Anchors: the boxes of several sizes and shapes around every place of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kseg.checks import check_choice, whole

STYLES = ("faster-rcnn", "fpn")


def reference_anchors(
    scales: Sequence[float] = (8, 16, 32),
    ratios: Sequence[float] = (0.5, 1, 2),
    base: int = 16,
    style: str = "faster-rcnn",
) -> NDArray[np.float32]:
    """Return the anchors of the place (0, 0).

    Args:
        scales: sides, in units of `base`.
        ratios: height by width.
        base: pixels.
        style: `"faster-rcnn"`: the released code's rounding of sides, around the middle of `base` x `base`
            pixels (`generate_anchors.py`; its corners are inclusive, ours end exclusive); `"fpn"`: around 0,
            half sides rounded (torchvision's `AnchorGenerator`).

    Returns:
        float32 `(len(ratios) * len(scales), 4)`: every scale of the first ratio, then of the next.

    Example:
        >>> reference_anchors()[0]
        array([-40., -84.,  56., 100.], dtype=float32)
    """
    check_choice("style", style, STYLES, "reference_anchors")
    rows = []
    for ratio in ratios:
        for scale in scales:
            if style == "fpn":
                side = base * scale
                half_height, half_width = side * np.sqrt(ratio) / 2, side / np.sqrt(ratio) / 2
                half = np.round([half_height, half_width])
                rows.append([-half[0], -half[1], half[0], half[1]])
                continue
            width = np.round(np.sqrt(base * base / ratio))
            height = np.round(width * ratio)
            height, width, middle = height * scale, width * scale, (base - 1) / 2
            low, left = middle - (height - 1) / 2, middle - (width - 1) / 2
            rows.append([low, left, low + height, left + width])
    return np.asarray(rows, np.float32)


@keras.saving.register_keras_serializable(package="kseg")
class Anchors(keras.layers.Layer):
    """The reference anchors moved to every place of a feature map.

    Args:
        reference: `(A, 4)` boxes of the place (0, 0); see `reference_anchors`.
        stride: pixels of the image between two places.

    Returns:
        float32 `(1, H * W * A, 4)` for features `(B, H, W, C)`, rows first, the anchors of a place together:
        the order in which `(B, H, W, A)` is flattened.
    """

    def __init__(self, reference: Sequence[Sequence[float]], stride: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.reference = np.asarray(reference, np.float32).reshape(-1, 4)
        self.stride = whole(stride, "Anchors", "stride")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        _, height, width, _ = input_shape
        places = None if height is None or width is None else height * width * len(self.reference)
        return (1, places, 4)

    def call(self, features: Any) -> Any:
        _, height, width, _ = ops.shape(features)
        y = ops.arange(height, dtype="float32")[:, None, None] * self.stride
        x = ops.arange(width, dtype="float32")[None, :, None] * self.stride
        zeros = ops.zeros_like(y) + ops.zeros_like(x)
        moves = ops.concatenate([y + zeros, x + zeros, y + zeros, x + zeros], axis=-1)
        return ops.reshape(moves[:, :, None, :] + self.reference, (1, -1, 4))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reference": self.reference.tolist(), "stride": self.stride}
