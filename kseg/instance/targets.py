"""What a sample with instances becomes as a training target."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.data.instances import Instances
from kseg.layers.detection import TRUE_SIDE


class InstanceTarget:
    """Boxes, classes and masks of the objects of a sample, filled up to a fixed number of rows.

    Args:
        most: rows. Of more objects the largest are taken.

    Returns:
        `true_boxes` float32 `(most, 4)`, `true_classes` int32 `(most,)`, `true_objects` and `true_crowds`
        float32 `(most,)`: 1 in rows that are an object or a crowd; `true_masks` uint8 `(most, 56, 56)`: 0 or
        1 on a grid over each box.
    """

    needs_instances: ClassVar[bool] = True

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, sample: Any) -> dict[str, NDArray[Any]]:
        found: Instances = sample.instances
        boxes = found.boxes()
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        chosen = [index for index in np.argsort(-areas, kind="stable") if areas[index] > 0][: self.most]
        target: dict[str, NDArray[Any]] = {
            "true_boxes": np.zeros((self.most, 4), np.float32),
            "true_classes": np.zeros(self.most, np.int32),
            "true_objects": np.zeros(self.most, np.float32),
            "true_crowds": np.zeros(self.most, np.float32),
            "true_masks": np.zeros((self.most, TRUE_SIDE, TRUE_SIDE), np.uint8),
        }
        for row, index in enumerate(chosen):
            target["true_boxes"][row] = boxes[index]
            target["true_classes"][row] = found.classes[index]
            target["true_crowds" if found.crowd[index] else "true_objects"][row] = 1
            if not found.crowd[index]:
                target["true_masks"][row] = _grid(found, index, boxes[index])
        return target


def _grid(found: Instances, index: int, box: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return an object on a grid over its box: a cell is 1 where at least half of it is the object."""
    part = found.layers[:, box[0] : box[2], box[1] : box[3]] == index + 1
    own = part.any(axis=0).astype(np.float32)
    # The mean of a cell where cells are larger than pixels, bilinear where they are smaller.
    kind = cv2.INTER_AREA if min(own.shape) >= TRUE_SIDE else cv2.INTER_LINEAR
    grid: NDArray[Any] = cv2.resize(own, (TRUE_SIDE, TRUE_SIDE), interpolation=kind) >= 0.5
    return grid.astype(np.uint8)
