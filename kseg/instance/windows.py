"""Windows of the network's size over an image of any size, and their objects as those of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.data.transforms.resize import fitted_size, resize_image
from kseg.inference.geometry import pad_to, tile_starts

Size = tuple[int, int]
Floats = NDArray[np.float32]

# A box of another window that shares so much of the smaller box is the same object.
SAME = 0.5
# A box that ends within so many pixels of a window's inner border is cut by it.
CUT = 1.0


@dataclass(frozen=True)
class Window:
    """A part of an image as the network sees it.

    Args:
        pixels: uint8, of the network's size.
        corner: row and column of its first pixel in the image.
        scale: pixels of the network per pixel of the image, rows and columns.
        inner: which of its borders (top, left, bottom, right) lie inside the image.
    """

    pixels: NDArray[np.uint8]
    corner: Size
    scale: tuple[float, float]
    inner: tuple[bool, bool, bool, bool]


def windows(
    image: NDArray[np.uint8], size: Size, resize: str, overlap: float, fill: tuple[int, int, int]
) -> Iterator[Window]:
    """Yield the windows of an image.

    Args:
        image: uint8 (H, W, 3).
        size: of the network.
        resize: `"none"`: native pixels, in as many windows as it takes; `"stretch"` and `"fit"`: the whole
            image in one.
        overlap: share of a window that neighbours have in common.
        fill: colour of what is padded.
    """
    height, width = image.shape[:2]
    if resize != "none":
        inner = size if resize == "stretch" else fitted_size((height, width), size)
        pixels = pad_to(resize_image(image, inner), size, fill)
        yield Window(pixels, (0, 0), (inner[0] / height, inner[1] / width), (False,) * 4)
        return
    for top in tile_starts(height, size[0], overlap):
        for left in tile_starts(width, size[1], overlap):
            part = image[top : top + size[0], left : left + size[1]]
            ends = (top > 0, left > 0, top + size[0] < height, left + size[1] < width)
            yield Window(pad_to(np.ascontiguousarray(part), size, fill), (top, left), (1.0, 1.0), ends)


def in_image(window: Window, boxes: Floats, scores: Floats, image: Size) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the boxes `(D, 4)` of a window in pixels of the image, cut to it, and which of them count.

    What an inner border of the window cuts does not: a neighbour sees the whole, unless it is larger than
    what both share; then nobody does, and the cut one stays.
    """
    sides = window.pixels.shape[:2]
    at_border = [
        boxes[:, 0] <= CUT,
        boxes[:, 1] <= CUT,
        boxes[:, 2] >= sides[0] - CUT,
        boxes[:, 3] >= sides[1] - CUT,
    ]
    large = (boxes[:, 2] - boxes[:, 0] > sides[0] / 2) | (boxes[:, 3] - boxes[:, 1] > sides[1] / 2)
    cut = np.zeros(len(boxes), bool)
    for touches, inner in zip(at_border, window.inner, strict=True):
        cut |= touches & inner
    moved = boxes / np.tile(np.asarray(window.scale, np.float32), 2) + np.tile(window.corner, 2)
    moved = np.clip(moved, 0, np.tile(image, 2)).astype(np.float32)
    empty = (moved[:, 2] - moved[:, 0] <= 0) | (moved[:, 3] - moved[:, 1] <= 0)
    return moved, (scores > 0) & ~empty & (~cut | large)


def merged(boxes: Floats, scores: Floats, classes: NDArray[Any], place: NDArray[Any]) -> NDArray[np.int64]:
    """Return the indices that stay when windows saw an object twice: of each the surest.

    Args:
        boxes, scores, classes: of all windows, `(N, 4)`, `(N,)` and `(N,)`.
        place: number of the window `(N,)`; those of one window do not remove each other.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    stays = np.ones(len(boxes), bool)
    for rank, index in enumerate(order):
        if not stays[index]:
            continue
        others = order[rank + 1 :]
        low = np.maximum(boxes[index, :2], boxes[others, :2])
        common = np.prod(np.maximum(np.minimum(boxes[index, 2:], boxes[others, 2:]) - low, 0), axis=1)
        same = common > SAME * np.minimum(areas[index], areas[others])
        same &= (classes[others] == classes[index]) & (place[others] != place[index])
        stays[others[same]] = False
    return order[stays[order]]
