"""Masks of one image as run lengths: exact, small, made and read with numpy alone.

The runs are COCO's: down the columns from left to right, runs of 0 and 1 in turn, the first of 0. A mask of
30 x 30 pixels takes some 250 bytes whatever the size of its image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, bounds, windows
from kseg.errors import UsageError

# uint32 (R,)
Runs = NDArray[np.uint32]
Size = tuple[int, int]


def decode(runs: NDArray[Any], size: Size) -> NDArray[np.bool_]:
    """Return the bool (H, W) mask that runs mean; they must add up to H x W."""
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(size[1], size[0]).T)


def tidy(runs: NDArray[np.integer], size: Size) -> Runs:
    """Return runs that add up to H x W without the empty ones that COCO allows between others."""
    edges, times = np.unique(np.cumsum(runs[:-1], dtype=np.int64), return_counts=True)
    # The mask does not change where it changes twice.
    return _of_edges(edges[times % 2 == 1], size)


@dataclass(frozen=True, eq=False)
class Masks:
    """N masks of one image.

    Args:
        runs: one array per mask: uint32 run lengths that add up to H x W. An empty mask is one run.
        size: (H, W).

    Raises:
        UsageError: if an array is not of that kind.
    """

    runs: tuple[Runs, ...]
    size: Size

    def __post_init__(self) -> None:
        total = self.size[0] * self.size[1]
        for index, runs in enumerate(self.runs):
            if runs.ndim != 1 or runs.dtype != np.uint32 or int(runs.sum(dtype=np.uint64)) != total:
                raise UsageError(
                    f"Masks: `runs` must be uint32 lengths that add up to {total} (an image of "
                    f"{self.size[0]}x{self.size[1]}). Received: {runs.dtype} {runs.shape} with the sum "
                    f"{runs.sum()} at {index}"
                )

    @classmethod
    def from_masks(cls, masks: Iterable[NDArray[np.bool_]], size: Size) -> Masks:
        """Encode bool (H, W) masks.

        Raises:
            UsageError: if one has another shape or dtype.
        """
        found = []
        for index, mask in enumerate(masks):
            if mask.shape != tuple(size) or mask.dtype != bool:
                raise UsageError(
                    f"Masks of an image of {size[0]}x{size[1]} must be bool ({size[0]}, {size[1]}). "
                    f"Received: {mask.dtype} {mask.shape} at {index}"
                )
            if mask.any():
                rows, columns = bounds(mask)
                found.append(_encoded(mask[rows, columns], (rows.start, columns.start), size))
            else:
                found.append(_of_edges(np.zeros(0, np.int64), size))
        return cls(tuple(found), (int(size[0]), int(size[1])))

    @classmethod
    def from_crops(cls, crops: Iterable[NDArray[np.bool_]], boxes: NDArray[np.integer], size: Size) -> Masks:
        """Encode masks that are given inside whole boxes `(y0, x0, y1, x1)`; what lies outside is cut off.

        Args:
            crops: bool (y1 - y0, x1 - x0), one per box.
            boxes: whole numbers (N, 4), the end exclusive.
            size: (H, W) of the image.
        """
        found = []
        for crop, box in zip(crops, boxes, strict=True):
            (rows, columns), inside = windows(box, size)
            found.append(_encoded(np.asarray(crop, bool)[inside], (rows.start, columns.start), size))
        return cls(tuple(found), (int(size[0]), int(size[1])))

    @classmethod
    def from_layers(cls, layers: NDArray[np.integer], count: int) -> Masks:
        """Encode ids 1 to `count` of id maps (L, H, W), each wholly on one layer; see `Instances.layers`."""
        size = layers.shape[1], layers.shape[2]
        found = [_of_edges(np.zeros(0, np.int64), size)] * count
        for layer in layers:
            flat = np.ascontiguousarray(layer.T).reshape(-1)
            starts = np.flatnonzero(np.diff(flat, prepend=0) != 0)
            ends = np.append(starts, flat.size)[1:]
            ids = flat[starts]
            order = np.argsort(ids, kind="stable")[np.count_nonzero(ids == 0) :]
            kept, first = np.unique(ids[order], return_index=True)
            edges = np.stack([starts, ends], axis=1)[order]
            for identity, low, high in zip(kept, first, np.append(first, len(edges))[1:], strict=True):
                found[identity - 1] = _of_edges(edges[low:high].reshape(-1), size)
        return cls(tuple(found), size)

    @classmethod
    def from_regions(cls, superpixels: NDArray[np.integer], members: NDArray[np.bool_]) -> Masks:
        """Encode unions of superpixels.

        Args:
            superpixels: ids 0 to S - 1 (H, W).
            members: bool (N, S): which superpixels each mask is made of.
        """
        size = superpixels.shape[0], superpixels.shape[1]
        flat = np.ascontiguousarray(superpixels.T).reshape(-1)
        # Masks change where the superpixel does, and nowhere else.
        places = np.flatnonzero(np.diff(flat, prepend=-1) != 0)
        ids, ends = flat[places], np.append(places, flat.size)
        changes = (np.flatnonzero(np.diff(row[ids], prepend=False, append=False)) for row in members)
        return cls(tuple(_of_edges(ends[change], size) for change in changes), size)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, chosen: Sequence[int] | NDArray[Any] | slice) -> Masks:
        """Return some of the masks, in the order asked for."""
        indices = np.arange(len(self))[chosen]
        return Masks(tuple(self.runs[index] for index in indices), self.size)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return one mask: bool (H, W)."""
        return decode(self.runs[index], self.size)

    def crop(self, index: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        """Return the rows and columns of the smallest box around one mask, and the mask inside."""
        y0, x0, y1, x1 = self._box(index)
        high = self.size[0]
        # The columns of the box alone: cheap for a small mask in a large image.
        edges = np.clip(np.cumsum(self.runs[index], dtype=np.int64), x0 * high, x1 * high)
        values = np.arange(len(edges)) % 2 == 1
        columns = np.repeat(values, np.diff(edges, prepend=x0 * high)).reshape(x1 - x0, high)
        return (slice(y0, y1), slice(x0, x1)), np.ascontiguousarray(columns[:, y0:y1].T)

    def areas(self) -> NDArray[np.int64]:
        """Return the pixels of each mask: (N,)."""
        return np.array([runs[1::2].sum(dtype=np.int64) for runs in self.runs], np.int64)

    def depth(self) -> int:
        """Return how many masks there are over the pixel that most of them share."""
        edges = [np.cumsum(runs, dtype=np.int64) for runs in self.runs]
        starts = [each[0:-1:2] for each in edges]
        # Where one mask ends and another starts, the end comes first.
        keys = [2 * each + 1 for each in starts] + [2 * each[1::2] for each in edges]
        steps = np.sort(np.concatenate([np.zeros(0, np.int64), *keys]))
        return int(np.cumsum(2 * (steps & 1) - 1).max(initial=0))

    def boxes(self) -> Boxes:
        """Return the smallest box around each mask: int32 (N, 4), zeros for an empty one."""
        return np.array([self._box(index) for index in range(len(self))], np.int32).reshape(-1, 4)

    def _box(self, index: int) -> tuple[int, int, int, int]:
        edges = np.cumsum(self.runs[index], dtype=np.int64)
        # A run of ones goes from an even place to the odd one after it; the last pixel is inclusive here.
        first, last = edges[0:-1:2], edges[1::2] - 1
        if not len(first):
            return 0, 0, 0, 0
        high = self.size[0]
        x0, x1 = int(first[0] // high), int(last[-1] // high) + 1
        if (first // high != last // high).any():
            return 0, x0, high, x1
        return int((first % high).min()), x0, int((last % high).max()) + 1, x1


def _encoded(crop: NDArray[np.bool_], corner: tuple[int, int], size: Size) -> Runs:
    """Return the runs of a mask that is `crop` (h, w) at `corner` (row, column)."""
    columns = np.zeros((crop.shape[1], size[0]), bool)
    columns[:, corner[0] : corner[0] + crop.shape[0]] = crop.T
    edges = np.flatnonzero(np.diff(columns.reshape(-1), prepend=False, append=False))
    return _of_edges(edges + corner[1] * size[0], size)


def _of_edges(edges: NDArray[np.integer], size: Size) -> Runs:
    """Return the runs whose values change at `edges`, down the columns, from 0 to 1 first."""
    total = size[0] * size[1]
    runs = np.diff(edges, prepend=0, append=total).astype(np.uint32)
    # As COCO's encoder: no empty run at the end.
    return runs[:-1] if len(edges) and edges[-1] == total else runs
