"""Counting pixels per class over a data set: streamed, threaded, exact integers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kseg.data.sources.coco_folder import CocoFolder
from kseg.data.sources.folder_base import Item
from kseg.data.sources.folders import SemanticFolder
from kseg.data.instances import semantic
from kseg.data.sources.source import Source
from kseg.data.counting.weights import class_weights
from kseg.spec import Spec

Progress = Callable[[Iterable[Any], int], Iterator[Any]]
In = TypeVar("In")
Out = TypeVar("Out")


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


def evenly(items: Sequence[In], limit: int | None) -> list[In]:
    """Return at most `limit` items, evenly spaced over all of them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield `function(item)` in order, computed by threads (decoders release the GIL), few at a time."""
    workers = min(os.cpu_count() or 1, 8)
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


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


def folder_mask(folder: SemanticFolder | CocoFolder, item: Item) -> NDArray[Any]:
    """Read the class map of one image of a folder, past the cache and without its picture."""
    if isinstance(folder, SemanticFolder):
        return folder.read_mask(item)
    return semantic(folder.read_instances(item), folder.spec.ignore_id)


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
    spec: Spec = source.spec
    source.check_split(split)
    result = ClassCounts(spec.num_classes, spec.ignore_id)
    masks: Iterator[dict[int, int]]
    folder = source.folder
    if isinstance(folder, SemanticFolder | CocoFolder) and split in folder.items:
        folder.check_complete(split)
        items = evenly(folder.items[split], limit)
        total = len(items)
        masks = parallel(lambda item: id_counts(folder_mask(folder, item)), items)
    else:
        samples = source.samples(split, limit)
        total = len(samples)
        masks = (id_counts(sample.mask) for sample in samples)
    for counts in progress(masks, total) if progress else masks:
        result.add(counts)
    return result
