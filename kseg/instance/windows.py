"""Windows of the network's size over an image of any size, and which of them shows an object best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes
from kseg.data.transforms.resize import fitted_size, resize_image
from kseg.inference.geometry import pad_to, tile_starts

Size = tuple[int, int]
Floats = NDArray[np.float32]

# A box that ends within so many pixels of a window's inner border is cut by it: networks end boxes a little
# early there.
CUT = 3


@dataclass(frozen=True)
class Window:
    """A part of an image as the network sees it.

    Args:
        pixels: uint8, of the network's size.
        box: the part, whole pixels of the image `(y0, x0, y1, x1)`.
        scale: pixels of the network per pixel of the image, rows and columns.
    """

    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    scale: tuple[float, float]

    def in_image(self, boxes: Floats) -> Floats:
        """Return boxes `(N, 4)` of the network in pixels of the image."""
        moved = boxes / np.tile(np.asarray(self.scale), 2) + np.tile(self.box[:2], 2)
        return moved.astype(np.float32)


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
        yield Window(pixels, (0, 0, height, width), (inner[0] / height, inner[1] / width))
        return
    for top in tile_starts(height, size[0], overlap):
        for left in tile_starts(width, size[1], overlap):
            box = top, left, min(top + size[0], height), min(left + size[1], width)
            part = np.ascontiguousarray(image[top : box[2], left : box[3]])
            yield Window(pad_to(part, size, fill), box, (1.0, 1.0))


def margins(boxes: NDArray[Any], views: Boxes, size: Size) -> NDArray[np.float64]:
    """Return how far boxes end inside of each border of the window that they were seen through.

    Args:
        boxes: `(N, 4)` in pixels of the image.
        views: the window of each, `(N, 4)`.
        size: of the image: its own borders cut nothing, so that boxes are infinitely far inside of them.

    Returns:
        `(N, 4)`: top, left, bottom and right.
    """
    inside = np.concatenate([boxes[:, :2] - views[:, :2], views[:, 2:] - boxes[:, 2:]], axis=1)
    inner = np.concatenate([views[:, :2] > 0, views[:, 2:] < size], axis=1)
    return np.where(inner, inside, np.inf)


def seen_better(boxes: NDArray[Any], views: Boxes, size: Size) -> NDArray[np.bool_]:
    """Return which boxes another window holds and cuts at fewer borders; arguments as those of `margins`.

    Such a box is a piece of what the other window shows: nothing is missed without it.
    """
    cuts, better = _cuts(boxes, views, size), np.zeros(len(boxes), bool)
    for view in np.unique(views, axis=0):
        holds = ((boxes[:, :2] >= view[:2]) & (boxes[:, 2:] <= view[2:])).all(axis=1)
        better |= holds & (_cuts(boxes, np.broadcast_to(view, boxes.shape), size) < cuts)
    return better


def _cuts(boxes: NDArray[Any], views: Boxes, size: Size) -> NDArray[np.int64]:
    return (margins(boxes, views, size) <= CUT).sum(axis=1)
