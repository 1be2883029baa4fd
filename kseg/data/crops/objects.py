"""The objects of an image with truth: its instances, or the connected components of its class map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, areas, from_corners, sides
from kseg.data.instances import BACKGROUND, Instances
from kseg.data.sample import Sample
from kseg.spec import Spec


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Args:
        boxes: int32 `(N, 4)`; see `kseg.boxes`.
        classes: int32 `(N,)` class ids.
        ids: int32 `(N,)` ids in `Sample.instances`; 0 for a connected component of the mask.
    """

    boxes: Boxes
    classes: NDArray[np.int32]
    ids: NDArray[np.int32]


def background_id(spec: Spec) -> int | None:
    """Return the id of the class named background, None when there is none."""
    names = [name.strip().lower() for name in spec.classes]
    return names.index(BACKGROUND) if BACKGROUND in names else None


def objects(sample: Sample, spec: Spec, min_size: int = 16) -> Objects:
    """Return the objects of a sample: its instances, or else the connected components of each class.

    Left out are the background, void, groups of instances (`crowd`), and objects whose longer side is
    shorter than `min_size` pixels. Pixels that touch at a corner are connected.
    """
    found = _components(sample, spec) if sample.instances is None else _instances(sample.instances)
    background = background_id(spec)
    longer = sides(found.boxes).max(axis=1, initial=0)
    kept = longer >= min_size
    if background is not None:
        kept &= found.classes != background
    return Objects(found.boxes[kept], found.classes[kept], found.ids[kept])


def _instances(instances: Instances) -> Objects:
    boxes = instances.boxes()
    ids = np.flatnonzero((areas(boxes) > 0) & ~instances.crowd).astype(np.int32) + 1
    return Objects(boxes[ids - 1], instances.classes[ids - 1].astype(np.int32), ids)


def _components(sample: Sample, spec: Spec) -> Objects:
    boxes, classes = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.int32)]
    for class_id in np.unique(sample.mask):
        if not 0 <= class_id < spec.num_classes:
            continue
        chosen = (sample.mask == class_id).astype(np.uint8)
        _, _, facts, _ = cv2.connectedComponentsWithStats(chosen, connectivity=8)
        boxes.append(from_corners(facts[1:, :4]))
        classes.append(np.full(len(boxes[-1]), class_id, np.int32))
    together = np.concatenate(boxes)
    return Objects(together, np.concatenate(classes), np.zeros(len(together), np.int32))
