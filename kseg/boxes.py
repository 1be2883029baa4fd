"""Boxes and their geometry: `(y0, x0, y1, x1)` in pixels, the end exclusive. numpy only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.errors import UsageError

# int32 (N, 4)
Boxes = NDArray[np.int32]
# Logarithm of the largest factor by which a moved box grows (Detectron's bound: 1000 pixels of 16).
MOST_GROWTH = math.log(1000 / 16)


def from_corners(found: Any) -> Boxes:
    """Return boxes of `(N, 4)` rows of left, top, width, height, as OpenCV and COCO write them."""
    left, top, width, height = np.asarray(found, np.int32).reshape(-1, 4).T
    return np.stack([top, left, top + height, left + width], axis=1)


def of_ids(layers: NDArray[np.integer], count: int) -> Boxes:
    """Return the box of each id 1 to `count` in id maps `(L, H, W)`; zeros for an id without a pixel."""
    low = np.full((count + 1, 2), np.iinfo(np.int32).max, np.int32)
    high = np.zeros((count + 1, 2), np.int32)
    for layer in layers:
        places = np.stack(np.nonzero(layer), axis=1).astype(np.int32)
        ids = layer[places[:, 0], places[:, 1]]
        np.minimum.at(low, ids, places)
        np.maximum.at(high, ids, places + 1)
    low[high.max(axis=1) == 0] = 0
    return np.concatenate([low, high], axis=1)[1:]


def bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of a mask `(H, W)` that has a pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def sides(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return heights and widths: `(..., 2)`."""
    return boxes[..., 2:] - boxes[..., :2]


def _wide(boxes: Any) -> NDArray[Any]:
    """Return boxes in numbers that products of sides fit into: whole ones stay whole."""
    found = np.asarray(boxes)
    return found.astype(np.float64 if np.issubdtype(found.dtype, np.floating) else np.int64)


def areas(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return the area of each box in pixels: int64 of whole boxes, float64 of others."""
    return sides(_wide(boxes)).prod(axis=-1)


def clipped(boxes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return the parts of boxes inside an image of `size` (height, width): whole boxes as int32."""
    inside = np.clip(boxes, 0, [*size, *size])
    return inside if np.issubdtype(inside.dtype, np.floating) else inside.astype(np.int32)


def scaled(boxes: Boxes, source: tuple[int, int], target: tuple[int, int]) -> Boxes:
    """Bring boxes of an image of size `source` to its copy of size `target`, rounded outwards, clipped."""
    if source == target or not len(boxes):
        return clipped(boxes, target).astype(np.int32)
    factor = np.array([target[0] / source[0], target[1] / source[1]])
    # Rounded to a millionth of a pixel first, so that a whole number does not spill over.
    first = np.floor(np.round(boxes[:, :2] * factor, 6))
    last = np.ceil(np.round(boxes[:, 2:] * factor, 6))
    return clipped(np.concatenate([first, last], axis=1), target).astype(np.int32)


def enlarge(boxes: NDArray[Any], factor: float, min_side: int = 1) -> Boxes:
    """Return `(N, 4)` boxes grown about their centres; they may reach outside the image.

    Args:
        boxes: integer `(N, 4)`.
        factor: of both sides, 1 to 10.
        min_side: sides that are still shorter grow to this many pixels.

    Raises:
        UsageError: if the factor is out of range.
    """
    if not 1 <= factor <= 10:
        raise UsageError(f"Argument `enlarge` must be 1 to 10. Received: enlarge={factor!r}")
    boxes = np.asarray(boxes).reshape(-1, 4)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]) * factor, min_side) / 2
    # Up at both ends, so that a side keeps its length: rounding to even would not.
    return np.floor(np.concatenate([center - half, center + half], axis=1) + 0.5).astype(np.int32)


def iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the intersection over union, 0-1, of every box with every other: `(N, M)`."""
    first, second = _wide(boxes)[:, None], _wide(others)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    union = areas(first) + areas(second) - common
    return np.divide(common, union, out=np.zeros(union.shape), where=union > 0)


def moves(boxes: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return what makes `targets` of boxes, both `(..., 4)` with positive sides.

    Girshick et al., R-CNN, CVPR 2014, appendix C, as `kseg.layers` has it in networks: move of the middle in
    sides of the box (y, x), logarithm of the growth (height, width).
    """
    own, other = np.asarray(boxes, np.float64), np.asarray(targets, np.float64)
    middle = (other[..., :2] + other[..., 2:] - own[..., :2] - own[..., 2:]) / 2
    return np.concatenate([middle / sides(own), np.log(sides(other) / sides(own))], axis=-1)


def moved(boxes: NDArray[Any], by: NDArray[Any]) -> NDArray[np.float64]:
    """Return boxes `(..., 4)` after `moves`; a growth beyond `MOST_GROWTH` is cut to it."""
    own, numbers = np.asarray(boxes, np.float64), np.asarray(by, np.float64)
    middle = (own[..., :2] + own[..., 2:]) / 2 + numbers[..., :2] * sides(own)
    half = np.exp(np.minimum(numbers[..., 2:], MOST_GROWTH)) * sides(own) / 2
    return np.concatenate([middle - half, middle + half], axis=-1)


def windows(box: NDArray[Any], size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a box meets an image of `size`: as rows and columns of the image, and of the box.

    Both are empty when the box lies outside.
    """
    inside, within = [], []
    for axis in (0, 1):
        start, stop = int(box[axis]), int(box[axis + 2])
        low = min(max(start, 0), size[axis])
        high = max(min(stop, size[axis]), low)
        inside.append(slice(low, high))
        within.append(slice(low - start, high - start))
    return (inside[0], inside[1]), (within[0], within[1])


def cut(values: NDArray[Any], box: NDArray[Any], fill: int | tuple[int, ...]) -> NDArray[Any]:
    """Return the `(y1 - y0, x1 - x0, ...)` part of `(H, W, ...)` under a box, `fill` outside the image."""
    inside, within = windows(box, (values.shape[0], values.shape[1]))
    shape = (int(box[2] - box[0]), int(box[3] - box[1]), *values.shape[2:])
    part = np.empty(shape, values.dtype)
    part[:] = fill
    part[within] = values[inside]
    return part
