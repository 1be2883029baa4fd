"""COCO segmentations to masks: polygons clipped to the image, run lengths checked before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg.data import run_lengths
from kseg.data.run_lengths import Masks, Runs
from kseg.errors import DataError
from kseg.records import Count, Record

# Bounds on what one annotation may hold.
MAX_COORDINATE = 10_000_000
MAX_NUMBERS = 1_000_000
MAX_OUTLINE = 1_000_000
# Farther out than this (pixels) a polygon is cut off before it is painted.
_MARGIN = 64
# COCO writes a run as groups of 5 bits; 7 groups hold any 32-bit count.
_MOST_GROUPS = 7
_LEAST_NUMBERS = 6

Coordinate = Annotated[float, msgspec.Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Polygon = Annotated[list[Coordinate], msgspec.Meta(max_length=MAX_NUMBERS)]


class RunLengths(Record, frozen=True):
    """A mask as COCO's run lengths: columns from left to right, runs of 0 and 1 in turn."""

    size: tuple[Count, Count]
    counts: str | list[Count]


Segmentation = list[Polygon] | RunLengths


def problem(segmentation: Segmentation, size: tuple[int, int]) -> str:
    """Return why a segmentation cannot be painted on an image of `size` (height, width), or ""."""
    if isinstance(segmentation, RunLengths):
        try:
            _checked_counts(segmentation, size)
        except DataError as error:
            return str(error)
        return ""
    for polygon in segmentation:
        if len(polygon) % 2:
            return f"a polygon has {len(polygon)} numbers; it needs x and y in turn"
        if outline(polygon, size) > MAX_OUTLINE:
            return f"a polygon has an outline of more than {MAX_OUTLINE:,} pixels"
    return ""


def is_degenerate(segmentation: Segmentation) -> bool:
    """Return whether a segmentation has a polygon that encloses nothing: a point or a line."""
    return not isinstance(segmentation, RunLengths) and any(map(_is_line, segmentation))


def _is_line(polygon: Polygon) -> bool:
    points = list(dict.fromkeys(zip(polygon[::2], polygon[1::2], strict=False)))
    if len(points) < _LEAST_NUMBERS // 2:
        return True
    (left, top), (x, y) = points[:2]
    return all((px - left) * (y - top) == (py - top) * (x - left) for px, py in points[2:])


def extent(segmentation: Segmentation) -> tuple[float, float, float, float] | None:
    """Return (left, top, right, bottom) of all polygons; None for run lengths and where there is no point."""
    if isinstance(segmentation, RunLengths):
        return None
    xs = [value for polygon in segmentation for value in polygon[::2]]
    ys = [value for polygon in segmentation for value in polygon[1::2]]
    return (min(xs), min(ys), max(xs), max(ys)) if xs and ys else None


def outline(polygon: Sequence[float], size: tuple[int, int]) -> float:
    """Return the length in pixels that a painter follows, the part far outside the image left out."""
    # Most polygons are small: their box times their number of points bounds the length.
    if len(polygon) < _LEAST_NUMBERS:
        return 0.0
    wide, high = max(polygon[::2]) - min(polygon[::2]), max(polygon[1::2]) - min(polygon[1::2])
    if len(polygon) / 2 * (wide + high) <= MAX_OUTLINE:
        return 0.0
    points = clipped(polygon, size)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1, initial=0).sum())


def masks(segmentations: Iterable[Segmentation], size: tuple[int, int]) -> Masks:
    """Return the masks of segmentations.

    Args:
        segmentations: polygons or run lengths.
        size: (height, width) of the image.

    Raises:
        DataError: if `problem` finds one.
    """
    return Masks(tuple(_runs(segmentation, size) for segmentation in segmentations), size)


def decode(segmentation: Segmentation, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the bool (H, W) mask of one segmentation; see `masks`."""
    return masks([segmentation], size).mask(0)


def _runs(segmentation: Segmentation, size: tuple[int, int]) -> Runs:
    if isinstance(segmentation, RunLengths):
        return run_lengths.tidy(_checked_counts(segmentation, size), size)
    wrong = problem(segmentation, size)
    if wrong:
        raise DataError(wrong)
    # Three points at least; shorter polygons enclose nothing and occur in COCO itself.
    polygons = [clipped(polygon, size) for polygon in segmentation if len(polygon) >= _LEAST_NUMBERS]
    flat = [points.reshape(-1).tolist() for points in polygons if len(points) >= _LEAST_NUMBERS // 2]
    if not flat:
        return np.array([size[0] * size[1]], np.uint32)
    from pycocotools import mask as codec

    code = codec.merge(codec.frPyObjects(flat, *size))
    return run_lengths.tidy(_decompressed(code["counts"].decode()), size)


def clipped(polygon: Sequence[float], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the points (N, 2) of a polygon, cut off 64 pixels around an image of `size` (height, width).

    Sutherland and Hodgman (CACM 17, 1974): cut by one side after the other. What it leaves of a concave
    polygon may run along the cut, which lies outside the image; inside no pixel changes. A polygon that
    does not reach so far comes back as it is.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    for axis, side in ((0, size[1]), (1, size[0])):
        for sign, bound in ((1.0, side + _MARGIN), (-1.0, _MARGIN)):
            over = sign * points[:, axis] - bound
            if (over > 0).any():
                points = _cut(points, over)
                # The crossing is computed; its place on the cut is known.
                points[:, axis] = sign * np.minimum(sign * points[:, axis], bound)
    return points


def _cut(points: NDArray[np.float64], over: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep the part of a closed polygon where `over`, linear along its edges, is not positive."""
    following, after = np.roll(points, -1, axis=0), np.roll(over, -1)
    kept, crosses = over <= 0, (over <= 0) != (after <= 0)
    share = np.where(crosses, over / np.where(crosses, over - after, 1.0), 0.0)
    crossing = points + share[:, None] * (following - points)
    # Of each edge: its start if inside, then the crossing if there is one.
    both = np.stack([points, crossing], axis=1).reshape(-1, 2)
    return both[np.stack([kept, crosses], axis=1).reshape(-1)]


def _checked_counts(rle: RunLengths, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the runs, which sum up to the image."""
    if tuple(rle.size) != tuple(size):
        raise DataError(f"its RLE size is {list(rle.size)}, the image's {list(size)}")
    if isinstance(rle.counts, str):
        counts = _decompressed(rle.counts)
    else:
        counts = np.asarray(rle.counts, np.int64)
    total = size[0] * size[1]
    # Each run is checked first, as a sum of huge ones could overflow to the right number.
    if ((counts < 0) | (counts > total)).any() or int(counts.sum()) != total or len(counts) > 2 * total + 1:
        raise DataError(f"its RLE counts do not add up to the {total} pixels of the image")
    return counts


def _decompressed(text: str) -> NDArray[np.int64]:
    """Return the runs of a compressed COCO string (pycocotools, `rleFrString`).

    Each character holds 5 bits of a number, lowest first, and whether more follow; the top bit of the last
    is the sign. From the fourth number on it is the difference to the one two places before.
    """
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        raise DataError("its RLE counts are no text that COCO's encoder writes")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_GROUPS:
        raise DataError("its RLE counts hold a number beyond 32 bits")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 16, 1, 0) << (5 * lengths)
    counts = numbers.copy()
    counts[1::2] = np.cumsum(numbers[1::2])
    counts[2::2] = np.cumsum(numbers[2::2])
    return counts
