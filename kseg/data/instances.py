"""Instance masks as layered id maps.

Instances may overlap, so one id map cannot hold them. Ids 1..N are painted on as few layers as the
overlaps need (one layer for most images), which keeps every mask exact and lets a geometric
transform treat instances as it treats a label map: nearest neighbour, layer by layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kseg.boxes import Boxes, of_ids
from kseg.data.run_lengths import Masks
from kseg.errors import DataError

BACKGROUND = "background"
# What the layers of one image may take: 44 of 4000x3000 pixels, 1,747 of 640x480.
MAX_BYTES = 2**31
_PROBES = 8
_FULL = 255


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


class LayersError(DataError):
    """Objects of an image overlap so much that their layers are not held in memory."""


def stack(masks: Masks, classes: Sequence[int], crowd: Sequence[bool], where: str = "an image") -> Instances:
    """Paint masks on as few layers as first-fit needs; mask i (from 0) gets id i + 1.

    The time goes with the areas of their boxes, however many layers there are.

    Args:
        masks: of one image; an empty one keeps its id and has no pixel.
        classes, crowd: one value per mask.
        where: what messages call the image.

    Raises:
        LayersError: if the layers would take more than `MAX_BYTES`.
    """
    # First-fit takes at least as many layers as there are masks over one pixel: known before any is painted.
    _check_layers(masks.depth(), masks, where)
    layers = [np.zeros(masks.size, np.int32)]
    # Bit k of plane p: layer 8 p + k is taken at that pixel.
    taken = np.zeros((1, *masks.size), np.uint8)
    for index in range(len(masks)):
        window, inside = masks.crop(index)
        if not inside.size:
            continue
        place = _first_free(taken, window, inside)
        if place == len(layers):
            _check_layers(place + 1, masks, where)
            layers.append(np.zeros(masks.size, np.int32))
        if place == 8 * len(taken):
            taken = np.concatenate([taken, np.zeros_like(taken)])
        np.copyto(layers[place][window], index + 1, where=inside)
        plane = taken[place // 8][window]
        np.bitwise_or(plane, np.uint8(1 << place % 8), out=plane, where=inside)
    found = np.empty((len(layers), *masks.size), np.int32)
    # Each layer is freed as it is copied, so that they are not held twice.
    for place in reversed(range(len(layers))):
        found[place] = layers.pop()
    return Instances(found, np.asarray(classes, np.int32), np.asarray(crowd, bool))


def _first_free(taken: np.ndarray, window: tuple[slice, slice], inside: np.ndarray) -> int:
    """Return the first layer without a pixel in a mask that is `inside` of `window`; see `stack`."""
    # A few pixels rule out most of many planes.
    rows = np.linspace(0, len(inside) - 1, _PROBES).astype(int)
    columns = inside[rows].argmax(axis=1)
    met = inside[rows, columns]
    places = rows[met] + window[0].start, columns[met] + window[1].start
    open_planes = np.bitwise_or.reduce(taken[:, places[0], places[1]], axis=1) != _FULL
    for plane in np.flatnonzero(open_planes).tolist():
        used = int(np.bitwise_or.reduce(taken[plane][window][inside]))
        if used != _FULL:
            return int(8 * plane + (~used & (used + 1)).bit_length() - 1)
    return 8 * len(taken)


def _check_layers(count: int, masks: Masks, where: str) -> None:
    height, width = masks.size
    needed = count * height * width * np.dtype(np.int32).itemsize
    if needed > MAX_BYTES:
        raise LayersError(
            f"{where}: its {len(masks)} objects overlap in {count} layers or more of {height}x{width} "
            f"(height x width), which is {needed / 1e9:.1f} GB; at most {MAX_BYTES / 1e9:.1f} GB are held. "
            "List each object once, merge those that lie on each other, or make the image smaller"
        )


def semantic(instances: Instances, ignore_id: int) -> np.ndarray:
    """Return the class map (H, W) of instances: 0 is background.

    Small instances are painted over large ones, as a tie over a person wants; crowds become
    `ignore_id` where no single instance covers them.

    Returns:
        uint8 where `ignore_id` fits, else int32.
    """
    # Layer by layer: copies of all of them at once would take several times their memory.
    areas = np.zeros(len(instances) + 1, np.int64)
    for layer in instances.layers:
        areas += np.bincount(layer.reshape(-1), minlength=len(areas))
    order = sorted(range(len(instances)), key=lambda index: (not instances.crowd[index], -areas[index + 1]))
    rank = np.zeros(len(instances) + 1, np.int32)
    value = np.zeros(len(instances) + 1, np.uint8 if ignore_id <= np.iinfo(np.uint8).max else np.int32)
    for place, index in enumerate(order, start=1):
        rank[index + 1] = place
        value[place] = ignore_id if instances.crowd[index] else instances.classes[index]
    top = rank[instances.layers[0]]
    for layer in instances.layers[1:]:
        np.maximum(top, rank[layer], out=top)
    return value[top]
