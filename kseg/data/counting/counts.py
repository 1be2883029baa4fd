"""Counting pixels per class: of a data set, a run's images, or what a check sees; exact integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.data.counting.weights import class_weights
from kseg.data.sources.source import Source
from kseg.data.threads import Progress, parallel
from kseg.spec import Spec

# A survey of so many evenly spaced images knows sizes and which classes there are well enough.
SURVEYED = 500


def id_counts(mask: NDArray[np.integer]) -> dict[int, int]:
    """Return how many pixels have each id that occurs in an integer mask of any shape."""
    if mask.size == 0:
        return {}
    if mask.dtype == np.uint8 or (mask.min() >= 0 and mask.max() < 1 << 16):
        counts = np.bincount(mask.reshape(-1))
        ids = np.flatnonzero(counts)
        counts = counts[ids]
    else:
        ids, counts = np.unique(mask, return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


@dataclass
class ClassCounts:
    """Pixels per class of one split.

    Attributes:
        pixels: int64 `(classes,)`.
        present: int64 `(classes,)`: valid pixels of the images in which the class occurs.
        images_with: int64 `(classes,)`: images in which the class occurs.
        void: pixels of the ignore id.
        images: images counted.
        other: ids that are neither a class nor the ignore id -> pixels.
    """

    classes: int
    ignore_id: int
    pixels: NDArray[np.int64] = field(init=False)
    present: NDArray[np.int64] = field(init=False)
    images_with: NDArray[np.int64] = field(init=False)
    void: int = 0
    images: int = 0
    other: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pixels, self.present, self.images_with = (np.zeros(self.classes, np.int64) for _ in range(3))

    def add(self, counts: dict[int, int]) -> None:
        """Add one image's `id_counts`."""
        own = np.zeros(self.classes, np.int64)
        for index, count in counts.items():
            if 0 <= index < self.classes:
                own[index] = count
            elif index == self.ignore_id:
                self.void += count
            else:
                self.other[index] = self.other.get(index, 0) + count
        self.pixels += own
        self.present += np.where(own > 0, own.sum(), 0)
        self.images_with += own > 0
        self.images += 1

    @property
    def valid(self) -> int:
        """Pixels of any class."""
        return int(self.pixels.sum())

    def shares(self) -> NDArray[np.float64]:
        """Return each class's share of the valid pixels (0-1); zeros where there is none."""
        return self.pixels / max(self.valid, 1)

    def void_share(self) -> float:
        """Return the share of void in all pixels (0-1)."""
        total = self.valid + self.void + sum(self.other.values())
        return self.void / total if total else 0.0

    def weights(self, scheme: str, **options: Any) -> NDArray[np.float64]:
        """Return `class_weights` of these counts."""
        return class_weights(self.pixels, scheme, present=self.present, **options)


@dataclass(frozen=True)
class Survey:
    """Sizes and pixels per class of a split.

    Args:
        sizes: the distinct (height, width) seen.
        counts: pixels per class, void left out.
    """

    sizes: tuple[tuple[int, int], ...]
    counts: ClassCounts


def count_masks(masks: Sequence[NDArray[Any]], spec: Spec, progress: Progress | None = None) -> ClassCounts:
    """Count the pixels of each class in class maps, void apart.

    Args:
        masks: read when indexed, by several threads; see `kseg.data.sample.masks_of`.
        spec: classes and ignore id.
        progress: wraps the counted images, `(items, total) -> items`.
    """
    result = ClassCounts(spec.num_classes, spec.ignore_id)
    seen: Iterator[dict[int, int]] = parallel(lambda index: id_counts(masks[index]), range(len(masks)))
    for counts in progress(seen, len(masks)) if progress else seen:
        result.add(counts)
    return result


def count_classes(
    source: Source, split: str = "train", *, limit: int | None = None, progress: Progress | None = None
) -> ClassCounts:
    """Count the pixels of each class in one split of an opened data set, void apart.

    Args:
        source: from `kseg.data.open`.
        split: one of `source.splits`.
        limit: count at most that many images, evenly spaced.
        progress: wraps the counted images, `(items, total) -> items`.

    Raises:
        DataError: unknown split, or a mask that cannot be read.
    """
    return count_masks(source.masks(split, limit), source.spec, progress)


def survey(masks: Sequence[NDArray[Any]], spec: Spec) -> Survey:
    """Look at up to 500 evenly spaced class maps; at more where these show fewer than two classes."""
    first = range(0, len(masks), -(-len(masks) // SURVEYED))
    sizes = set()
    counts = ClassCounts(spec.num_classes, spec.ignore_id)
    for index in (*first, *sorted(set(range(len(masks))) - set(first))):
        if index not in first and np.count_nonzero(counts.pixels) > 1:
            break
        mask = masks[index]
        sizes.add((int(mask.shape[0]), int(mask.shape[1])))
        counts.add(id_counts(mask))
    return Survey(tuple(sorted(sizes)), counts)
