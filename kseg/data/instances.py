"""Instance masks as layered id maps.

Instances may overlap, so one id map cannot hold them. Ids 1..N are painted on as few layers as the
overlaps need (one layer for most images), which keeps every mask exact and lets a geometric
transform treat instances as it treats a label map: nearest neighbour, layer by layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kseg.boxes import Boxes, bounds, of_ids
from kseg.errors import DataError

BACKGROUND = "background"


@dataclass(frozen=True)
class Instances:
    """The instances of one image.

    Args:
        layers: int32 (L, H, W), L >= 1. 0 is no instance; k is a pixel of instance k (1..N).
            An instance lies wholly on one layer; instances that overlap lie on different layers.
        classes: int32 (N,), the class index of instance k at position k - 1. A geometric transform
            may push an instance out of the picture: its id is then absent from `layers`, and
            `classes` keeps its place.
        crowd: bool (N,), True where the "instance" is a group of many (COCO `iscrowd`).
    """

    layers: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray

    def __post_init__(self) -> None:
        if self.layers.ndim != 3 or self.layers.dtype != np.int32:
            raise DataError(
                "Instances `layers` must be int32 (L, H, W). "
                f"Received: {self.layers.dtype} {self.layers.shape}"
            )
        if self.classes.shape != self.crowd.shape or self.classes.ndim != 1:
            raise DataError(
                "Instances `classes` and `crowd` must be one-dimensional and of one length. "
                f"Received: {self.classes.shape} and {self.crowd.shape}"
            )

    def __len__(self) -> int:
        return len(self.classes)

    def ids(self) -> np.ndarray:
        """Return the ids (int32, ascending) that have at least one pixel."""
        found = np.unique(self.layers)
        return found[found > 0].astype(np.int32)

    def boxes(self) -> Boxes:
        """Return the int32 `(N, 4)` box of each instance, of its pixels; zeros where it has none."""
        return of_ids(self.layers, len(self))

    def mask(self, instance: int) -> np.ndarray:
        """Return the bool (H, W) mask of one instance id (1..N)."""
        if not 1 <= instance <= len(self):
            raise DataError(f"Instance ids run from 1 to {len(self)}. Received: {instance}")
        return (self.layers == instance).any(axis=0)

    def replace(self, layers: np.ndarray) -> Instances:
        """Return the same instances on transformed layers (L, H', W')."""
        return dataclasses.replace(self, layers=np.ascontiguousarray(layers, dtype=np.int32))


def stack(
    masks: Iterable[np.ndarray], classes: Sequence[int], crowd: Sequence[bool], size: tuple[int, int]
) -> Instances:
    """Paint masks on as few layers as first-fit needs; mask i (from 0) gets id i + 1.

    Args:
        masks: bool (H, W) each; an empty one keeps its id and has no pixel.
        classes, crowd: one value per mask.
        size: (H, W).
    """
    layers = [np.zeros(size, np.int32)]
    for index, mask in enumerate(masks):
        if not mask.any():
            continue
        window = bounds(mask)
        inside = mask[window]
        layer = next((entry for entry in layers if not entry[window][inside].any()), None)
        if layer is None:
            layer = np.zeros(size, np.int32)
            layers.append(layer)
        layer[window][inside] = index + 1
    return Instances(np.stack(layers), np.asarray(classes, np.int32), np.asarray(crowd, bool))


def semantic(instances: Instances, ignore_id: int) -> np.ndarray:
    """Return the class map (H, W) of instances: 0 is background.

    Small instances are painted over large ones, as a tie over a person wants; crowds become
    `ignore_id` where no single instance covers them.

    Returns:
        uint8 where `ignore_id` fits, else int32.
    """
    areas = np.bincount(instances.layers.reshape(-1), minlength=len(instances) + 1)[1:]
    order = sorted(range(len(instances)), key=lambda index: (not instances.crowd[index], -areas[index]))
    rank = np.zeros(len(instances) + 1, np.int32)
    value = np.zeros(len(instances) + 1, np.uint8 if ignore_id <= np.iinfo(np.uint8).max else np.int32)
    for place, index in enumerate(order, start=1):
        rank[index + 1] = place
        value[place] = ignore_id if instances.crowd[index] else instances.classes[index]
    return value[rank[instances.layers].max(axis=0)]
