"""The regions of a training image, its true objects and its proposals, and what each overlaps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import iou
from kseg.data.proposals import Proposals, StoredProposer
from kseg.data.run_lengths import Masks
from kseg.errors import DataError
from kseg.instance.sds.crops import Cropper, Floats, Size
from kseg.metrics.instances.scene import encoded, of_size, shares
from kseg.progress import Progress, silent
from kseg.spec import Spec

# A region with more than this share of itself in a crowd says nothing, unless it is an object's.
_CROWDED = 0.5
# Images whose pixels and proposals are held, some 5 MB each; others are read again from disk.
_HELD = 48


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What is known of the R regions of an image before anything is learned: M objects, then the proposals.

    Args:
        classes: of the objects, `(M,)`, 1 or more.
        masks: IoU of each region with each object, `(R, M)`: of masks, of boxes where proposals have no
            masks.
        boxes: the same of boxes.
        crowded: regions that lie in a crowd, `(R,)`.
    """

    classes: NDArray[np.int32]
    masks: Floats
    boxes: Floats
    crowded: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.masks)

    def by(self, which: str) -> Floats:
        """Return the overlaps of boxes (`"box"`) or of masks (`"region"`)."""
        return self.boxes if which == "box" else self.masks

    def best(self, kind: int) -> Floats:
        """Return the largest overlap of each region with an object of a class, `(R,)`."""
        return self.masks[:, self.classes == kind].max(axis=1, initial=0)

    def labels(self, by: str, least: float = 0.5) -> NDArray[np.int32]:
        """Return the class of each region, `(R,)`: of the object it overlaps most, 0 below `least`.

        -1 where nothing is known: in a crowd, and of no object.

        Args:
            by: `"box"` or `"region"`: which overlap.
            least: overlap from which on a region is the object's.
        """
        overlaps = self.by(by)
        if not len(self.classes):
            return np.where(self.crowded, -1, 0).astype(np.int32)
        found = np.where(overlaps.max(axis=1) >= least, self.classes[overlaps.argmax(axis=1)], 0)
        return np.where((found == 0) & self.crowded, -1, found).astype(np.int32)


def near_objects(
    overlaps: Sequence[Overlaps], by: str, least: float, most: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return proposals that overlap an object enough to learn from: `(N, 4)`, sorted by place.

    Args:
        overlaps: of each image.
        by: see `Overlaps.labels`.
        least: overlap with its object that a proposal needs.
        most: of a class; of more, so many are drawn.
        random: what draws.

    Returns:
        Place of the image, number of the region, of its object, and class.
    """
    found = [np.zeros((0, 4), np.int64)]
    for place, each in enumerate(overlaps):
        count = len(each.classes)
        if not count:
            continue
        shared = each.by(by)[count:]
        near = np.flatnonzero(shared.max(axis=1) >= least)
        items = shared[near].argmax(axis=1)
        found.append(np.stack([np.full(len(near), place), count + near, items, each.classes[items]], axis=1))
    every = np.concatenate(found)
    every = every[random.permutation(len(every))]
    kept = [every[every[:, 3] == kind][:most] for kind in np.unique(every[:, 3])]
    chosen = np.concatenate([every[:0], *kept])
    return chosen[np.argsort(chosen[:, 0], kind="stable")]


@dataclass(frozen=True, eq=False)
class Scene:
    """An image with its objects and proposals, ready to be cropped."""

    cropper: Cropper
    objects: Masks
    proposals: Proposals

    def crops(self, chosen: Sequence[int] | NDArray[np.integer]) -> Floats:
        """Return the crops of regions by their number, objects first: `(N, height, width, 4)`."""
        return np.stack([self._crop(int(index)) for index in chosen])

    def box(self, index: int) -> NDArray[np.int32]:
        """Return the box of a region."""
        return self._boxes[index]

    @functools.cached_property
    def _boxes(self) -> NDArray[np.int32]:
        return np.concatenate([self.objects.boxes(), self.proposals.boxes])

    def _crop(self, index: int) -> Floats:
        if index < len(self.objects):
            return self.cropper.of_mask(self.objects.mask(index), self.box(index))
        return self.cropper.of_proposals(self.proposals, [index - len(self.objects)])[0]


class Candidates:
    """The regions of all images of a split. Proposals lie on disk; pixels are read when they are asked for.

    Args:
        samples: with `image` and `instances`.
        proposer: finds the proposals.
        count: how many of an image, the most promising.
        spec: normalisation of the network.
        size: of its crops.
        progress: wraps the loop over the images.

    Raises:
        DataError: if there is no object, or a sample has no instances.
    """

    def __init__(
        self,
        samples: Sequence[Any],
        proposer: StoredProposer,
        count: int,
        spec: Spec,
        size: Size,
        progress: Progress | None = None,
    ) -> None:
        self._samples, self._proposer, self._count = samples, proposer, count
        self._normalization, self.size = spec.normalization, size
        self.overlaps: list[Overlaps] = []
        self.indices: list[int] = []
        numbers = (progress or silent)(range(len(samples)), len(samples), "proposing regions")
        for index in numbers:
            found = self._overlaps(samples[index])
            # Without a region there is nothing to crop.
            if len(found):
                self.indices.append(index)
                self.overlaps.append(found)
        if not sum(len(found.classes) for found in self.overlaps):
            raise DataError("There is no object to learn from. Run: kseg check-data DIR")
        self.scene = functools.lru_cache(_HELD)(self._scene)

    def __len__(self) -> int:
        return len(self.indices)

    def _scene(self, place: int) -> Scene:
        """Return an image by its place among those that have regions."""
        sample = self._samples[self.indices[place]]
        objects = _objects(sample)[0]
        found = self._proposer.find(sample.image).first(self._count)
        return Scene(Cropper(sample.image, self._normalization, self.size), objects, found)

    def _overlaps(self, sample: Any) -> Overlaps:
        objects, crowds, classes = _objects(sample)
        found = self._proposer.find(sample.image).first(self._count)
        boxes = np.concatenate([objects.boxes(), found.boxes])
        by_box = iou(boxes, objects.boxes())
        if found.has_masks:
            size = objects.size
            own, others, crowded = (of_size(encoded(each), size) for each in (objects, found.masks(), crowds))
            regions = [*own, *others]
            by_mask = shares(regions, own, np.zeros(len(own), bool))
            within = shares(regions, crowded, np.ones(len(crowded), bool))
        else:
            by_mask = by_box
            within = _within(boxes, crowds.boxes())
        return Overlaps(
            classes=classes,
            masks=by_mask.astype(np.float32),
            boxes=by_box.astype(np.float32),
            crowded=within.max(axis=1, initial=0) > _CROWDED,
        )


def _objects(sample: Any) -> tuple[Masks, Masks, NDArray[np.int32]]:
    """Return the objects of a sample that have a pixel, the crowds, and the classes of the objects."""
    found = sample.instances
    if found is None:
        raise DataError(
            f"Sample '{sample.name}' has no instances: this data holds a class for each pixel. SDS needs "
            "COCO's instances_SPLIT.json (of masks of ids `kseg convert-data --format id-masks` makes it)"
        )
    masks = Masks.from_layers(found.layers, len(found))
    seen = masks.areas() > 0
    objects = np.flatnonzero(seen & ~found.crowd)
    return masks[objects], masks[np.flatnonzero(seen & found.crowd)], found.classes[objects]


def _within(boxes: NDArray[Any], crowds: NDArray[Any]) -> NDArray[np.float64]:
    """Return which share of each box lies in each crowd's box: `(N, M)`."""
    low = np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    areas = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1)
    return np.maximum(high - low, 0).prod(axis=2) / areas[:, None]
