"""Of detections of one class the surest, and no other that shares with one that stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import iou

# What two detections must not share: a superpixel, or much of their boxes.
REGIONS, BOXES = SUPPRESSIONS = ("regions", "boxes")
# IoU of boxes from which on the weaker goes: R-CNN's.
BOXES_SHARE = 0.3


def apart(members: NDArray[np.bool_], order: NDArray[np.intp]) -> list[int]:
    """Return the regions that stay: of any two that share a superpixel the one that comes first goes on.

    Args:
        members: superpixels of each region, bool `(N, S)`.
        order: indices of regions, the surest first.
    """
    taken = np.zeros(members.shape[1], bool)
    stay = []
    for index in order:
        own = members[index]
        if not (taken & own).any():
            taken |= own
            stay.append(int(index))
    return stay


def boxes_apart(boxes: NDArray[Any], order: NDArray[np.intp], most: float = BOXES_SHARE) -> list[int]:
    """Return the boxes `(N, 4)` that stay: none has an IoU above `most` with one that comes first."""
    left = np.asarray(order)
    stay = []
    while len(left):
        stay.append(int(left[0]))
        left = left[1:][iou(boxes[left[:1]], boxes[left[1:]])[0] <= most]
    return stay
