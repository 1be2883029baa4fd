"""What every method finds: boxes by falling promise and, where it knows them, the mask of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, of_ids, scaled, sides
from kseg.data.run_lengths import Masks
from kseg.data.transforms.resize import resize_mask
from kseg.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """Proposals of one image, the most promising first: N of them.

    Args:
        boxes: int32 `(N, 4)`: `(y0, x0, y1, x1)`, the end exclusive, inside the image.
        scores: float32 `(N,)`, never rising; comparable within one image and method only.
        superpixels: int32 `(H, W)`, ids 0 to S-1; None where the method gives boxes alone.
        members: bool `(N, S)`: which superpixels a proposal is made of; None with `superpixels`.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    superpixels: NDArray[np.int32] | None = None
    members: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def has_masks(self) -> bool:
        """Whether proposals have masks, not only boxes."""
        return self.members is not None

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return the bool `(H, W)` mask of one proposal.

        Raises:
            UsageError: if the method gives boxes alone.
        """
        superpixels, members = self.regions()
        return members[index][superpixels]

    def masks(self) -> Masks:
        """Return all masks as run lengths.

        Raises:
            UsageError: if the method gives boxes alone.
        """
        return Masks.from_regions(*self.regions())

    def regions(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return `superpixels` and `members`.

        Raises:
            UsageError: if the method gives boxes alone.
        """
        if self.superpixels is None or self.members is None:
            raise UsageError("These proposals are boxes and have no masks. The method 'regions' gives masks")
        return self.superpixels, self.members

    def distinct_boxes(self) -> Boxes:
        """Return the boxes, each once where proposals have masks: two regions may fill one box."""
        if not self.has_masks:
            return self.boxes
        _, first = np.unique(self.boxes, axis=0, return_index=True)
        return self.boxes[np.sort(first)]

    def fault(self, size: tuple[int, int]) -> str:
        """Return what is wrong with these as proposals of an image of `size` (height, width), or ""."""
        number = len(self.boxes)
        if self.boxes.dtype != np.int32 or self.boxes.shape != (number, 4):
            return f"boxes are {self.boxes.dtype} {self.boxes.shape}"
        if (self.boxes[:, :2] < 0).any() or (self.boxes[:, 2:] > size).any():
            return "a box lies outside the image"
        if (sides(self.boxes) <= 0).any():
            return "a box is empty"
        if self.scores.dtype != np.float32 or self.scores.shape != (number,):
            return f"scores are {self.scores.dtype} {self.scores.shape}"
        if not np.isfinite(self.scores).all() or (np.diff(self.scores) > 0).any():
            return "scores do not fall"
        if self.superpixels is None or self.members is None:
            return ""
        if self.superpixels.dtype != np.int32 or self.superpixels.shape != size:
            return f"superpixels are {self.superpixels.dtype} {self.superpixels.shape}"
        if self.members.ndim != 2 or len(self.members) != number:
            return f"members are {self.members.shape}"
        if self.superpixels.min() < 0 or self.superpixels.max() >= self.members.shape[1]:
            return "a superpixel has no place among the members"
        return ""

    def first(self, count: int | None) -> Proposals:
        """Return the `count` most promising ones; None: all."""
        members = None if self.members is None else self.members[:count]
        return dataclasses.replace(
            self, boxes=self.boxes[:count], scores=self.scores[:count], members=members
        )

    def resized(self, source: tuple[int, int], target: tuple[int, int]) -> Proposals:
        """Bring proposals of an image of size `source` (height, width) to its copy of size `target`.

        Boxes are rounded outwards; masks by nearest pixel, and their boxes are of their pixels. A region that
        has none left is dropped.
        """
        if source == target:
            return self
        if self.superpixels is None or self.members is None:
            return dataclasses.replace(self, boxes=scaled(self.boxes, source, target))
        superpixels = resize_mask(self.superpixels, target).astype(np.int32, copy=False)
        boxes, left = member_boxes(superpixels, self.members)
        return dataclasses.replace(
            self,
            boxes=boxes[left],
            scores=self.scores[left],
            superpixels=superpixels,
            members=self.members[left],
        )


def member_boxes(
    superpixels: NDArray[np.int32], members: NDArray[np.bool_]
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return the box of each row of `members`, int32 `(N, 4)`, and which rows have a pixel, bool `(N,)`."""
    each = of_ids(superpixels[None] + 1, members.shape[1])
    present = each[:, 2] > 0
    members, each = members[:, present], each[present]
    boxes = np.zeros((len(members), 4), np.int32)
    for axis in range(4):
        outside = np.iinfo(np.int32).max if axis < 2 else 0
        values = np.where(members, each[:, axis], outside)
        boxes[:, axis] = (
            values.min(axis=1, initial=outside) if axis < 2 else values.max(axis=1, initial=outside)
        )
    left = boxes[:, 2] > 0
    boxes[~left] = 0
    return boxes, left
