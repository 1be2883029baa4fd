"""Pad and resize: pure functions on sizes and arrays (numpy and OpenCV only).

Padding is whole pixels at the bottom and right, added once and cut off once, so a mask can never come
back shifted. Resampling is bilinear with pixel centres at +0.5, as in the networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

# OpenCV's arrays have at most 128 channels.
_CHANNELS_AT_ONCE = 64

Floats = NDArray[np.float32]


def pad_to(image: NDArray[np.uint8], size: tuple[int, int], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pad `(H, W, 3)` at the bottom and right to `size` = (height, width) with the colour `fill`.

    Raises:
        ValueError: if the image is larger than `size`.
    """
    height, width = image.shape[:2]
    if height > size[0] or width > size[1]:
        raise ValueError(f"cannot pad an image of {height}x{width} to {size[0]}x{size[1]}")
    if (height, width) == size:
        return image
    padded = np.empty((*size, image.shape[2]), image.dtype)
    padded[:] = fill
    padded[:height, :width] = image
    return padded


def by_channels(function: Callable[[Floats], ArrayLike], values: Floats) -> Floats:
    """Apply an OpenCV function that treats channels alike to any number of them, in portions.

    Args:
        function: float32 `(H, W, c)` -> `(H', W', c)`, without the last axis where c is 1.
        values: float32 `(H, W, C)`.

    Returns:
        float32 `(H', W', C)`.
    """
    result: Floats | None = None
    for first in range(0, values.shape[2], _CHANNELS_AT_ONCE):
        part = np.ascontiguousarray(values[..., first : first + _CHANNELS_AT_ONCE])
        done = np.asarray(function(part), np.float32)
        if result is None:
            result = np.empty((*done.shape[:2], values.shape[2]), np.float32)
        result[..., first : first + _CHANNELS_AT_ONCE] = done.reshape(*done.shape[:2], -1)
    if result is None:
        raise ValueError(f"there are no channels: shape {values.shape}")
    return result


def resize_channels(values: Floats, size: tuple[int, int]) -> Floats:
    """Resize float32 `(H, W, C)` to `size` bilinearly, for any number of channels."""
    if values.shape[:2] == size:
        return values
    return by_channels(
        lambda part: cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), values
    )


def _neighbours(source: int, target: int, first: int, last: int) -> tuple[NDArray, NDArray, Floats]:
    """For target rows `first..last`: the two source rows of each and the weight of the second."""
    position = (np.arange(first, last) + 0.5) * (source / target) - 0.5
    below = np.floor(position)
    weight = (position - below).astype(np.float32)
    lower = np.clip(below, 0, source - 1).astype(np.intp)
    upper = np.clip(below + 1, 0, source - 1).astype(np.intp)
    return lower, upper, weight


def resize_rows(values: Floats, size: tuple[int, int], first: int, last: int) -> Floats:
    """Return rows `first..last` (exclusive) of `resize_channels(values, size)` without making the rest.

    Bilinear interpolation is separable: rows are mixed here, columns by OpenCV.
    """
    if values.shape[0] == size[0]:
        rows = values[first:last]
    else:
        lower, upper, weight = _neighbours(values.shape[0], size[0], first, last)
        share = weight[:, None, None]
        rows = values[lower] * (1 - share) + values[upper] * share
    return resize_channels(rows, (last - first, size[1]))


def tile_starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where tiles of `window` pixels begin along an axis of `length` pixels.

    Tiles lie evenly, the first at 0 and the last ending at `length`; neighbours share at least
    `overlap * window` pixels. An axis that is no longer than the window has one tile.
    """
    if length <= window:
        return [0]
    step = max(1, math.floor(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return [round(index * (length - window) / (count - 1)) for index in range(count)]
