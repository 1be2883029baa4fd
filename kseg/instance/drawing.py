"""Objects drawn: each in a colour of its own, with its outline."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.boxes import bounds

Color = tuple[int, int, int]
# The golden ratio: neighbouring numbers get hues far apart.
_STEP = 0.61803398875


def color_of(number: int) -> Color:
    """Return a bright colour for a number."""
    red, green, blue = colorsys.hsv_to_rgb((number * _STEP) % 1.0, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def layer(
    masks: Iterable[NDArray[np.bool_]], colors: Sequence[Color], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return uint8 RGBA (H, W, 4): outlines of masks `(H, W)` opaque, their inside half transparent."""
    picture = np.zeros((*size, 4), np.uint8)
    for mask, color in zip(masks, colors, strict=True):
        if not mask.any():
            continue
        rows, columns = bounds(mask)
        part = mask[rows, columns]
        inner = cv2.erode(np.pad(part, 1).astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
        target = picture[rows, columns]
        target[inner] = (*color, 90)
        target[part & ~inner] = (*color, 255)
    return picture


def over(image: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) with a layer (H, W, 4) over it."""
    share = drawn[..., 3:].astype(np.float32) / 255
    mixed: NDArray[np.uint8] = np.rint(image * (1 - share) + drawn[..., :3] * share).astype(np.uint8)
    return mixed
