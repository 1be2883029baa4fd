"""Batches of crops for fine-tuning: some images, some regions of each, a quarter of them objects."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kseg.checks import Range, check_choice, whole
from kseg.instance.sds.candidates import Candidates
from kseg.instance.sds.outputs import LOGITS

BY = ("box", "region")


class RegionBatches(keras.utils.PyDataset):
    """Crops and their classes; an epoch shows each image once. The same seed gives the same batches.

    Args:
        candidates: the regions.
        by: `"box"` or `"region"`: by which overlap, 0.5 and more, a region is an object's.
        images: images of a batch.
        per_image: regions drawn from each.
        foreground: share of them that are objects, where the image has so many.
        mirror: whether half the crops are mirrored.
        seed: of drawing, order and mirroring.

    Yields:
        `(crops (images * per_image, height, width, 4), {"logits": classes})`.
    """

    def __init__(
        self,
        candidates: Candidates,
        by: str,
        *,
        images: int = 4,
        per_image: int = 32,
        foreground: float = 0.25,
        mirror: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._candidates = candidates
        self.by = check_choice("by", by, BY)
        self._labels = [found.labels(self.by) for found in candidates.overlaps]
        self.images = min(whole(images, "RegionBatches", "images"), len(candidates))
        self.per_image = whole(per_image, "RegionBatches", "per_image")
        self.foreground = float(Range(0, 1).check(foreground, "foreground", "RegionBatches"))
        self.mirror, self.seed, self._epoch = mirror, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self._candidates) / self.images)

    def set_epoch(self, epoch: int) -> None:
        """Show the images in the order, and with the regions, of an epoch."""
        self._epoch = epoch

    def on_epoch_end(self) -> None:
        self.set_epoch(self._epoch + 1)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int32]]]:
        order = np.random.default_rng((self.seed, self._epoch)).permutation(len(self._candidates))
        random = np.random.default_rng((self.seed, self._epoch, index))
        crops, classes = [], []
        for place in np.take(order, range(index * self.images, (index + 1) * self.images), mode="wrap"):
            chosen = self._drawn(self._labels[place], random)
            crops.append(self._candidates.scene(int(place)).crops(chosen))
            classes.append(self._labels[place][chosen])
        batch = np.concatenate(crops)
        if self.mirror:
            turned = random.random(len(batch)) < 0.5
            batch[turned] = batch[turned, :, ::-1]
        return batch, {LOGITS: np.concatenate(classes)}

    def _drawn(self, labels: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.intp]:
        """Return `per_image` regions of an image: objects first; some come twice where there are too few."""
        objects, others = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
        if not len(objects) and not len(others):
            others = np.arange(len(labels))
        count = min(round(self.per_image * self.foreground), len(objects))
        if not len(others):
            count = self.per_image
        return np.concatenate([_some(objects, count, random), _some(others, self.per_image - count, random)])


def _some(items: NDArray[np.intp], count: int, random: np.random.Generator) -> NDArray[Any]:
    return random.choice(items, count, replace=count > len(items)) if count else np.zeros(0, np.intp)
