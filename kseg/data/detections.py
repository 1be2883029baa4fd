"""What a network says of the objects in one image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kseg.boxes import clipped, sides
from kseg.data.run_lengths import Masks, Size
from kseg.errors import UsageError


@dataclass(frozen=True, eq=False)
class Detections:
    """N objects that were found in one image, the surest first. `Detections.of` sorts and converts.

    Args:
        boxes: float32 (N, 4), `(y0, x0, y1, x1)` in pixels of the image, the end exclusive. A network that
            moves boxes by itself says them; they need not be the smallest around the masks.
        scores: float32 (N,), falling; any finite numbers (probabilities, margins).
        classes: int32 (N,), 1 or more: 0 is background.
        masks: one per object, at the size of the image.

    Raises:
        UsageError: if an array is not of that kind.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]
    masks: Masks

    def __post_init__(self) -> None:
        count = len(self.masks)
        for name, dtype, shape in (
            ("boxes", "float32", (count, 4)),
            ("scores", "float32", (count,)),
            ("classes", "int32", (count,)),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise UsageError(
                    f"Detections: `{name}` must be {dtype} {shape}, as there are {count} masks. "
                    f"Received: {array.dtype} {array.shape}"
                )
        if not np.isfinite(self.boxes).all() or (self.boxes[:, :2] > self.boxes[:, 2:]).any():
            raise UsageError("Detections: `boxes` must be finite, with y0 <= y1 and x0 <= x1")
        if not np.isfinite(self.scores).all() or (np.diff(self.scores) > 0).any():
            raise UsageError("Detections: `scores` must be finite and falling; `Detections.of` sorts")
        if count and self.classes.min() < 1:
            raise UsageError(
                f"Detections: `classes` must be 1 or more (0 is background). Received: {self.classes.min()}"
            )

    @classmethod
    def of(
        cls, masks: Masks, scores: ArrayLike, classes: ArrayLike, boxes: ArrayLike | None = None
    ) -> Detections:
        """Return the detections of masks, sorted by score; of equal scores the first stays first.

        Args:
            masks: one per object.
            scores, classes: one number per object.
            boxes: (N, 4); None: the smallest around each mask.
        """
        falling = np.asarray(scores, np.float32).reshape(-1)
        kinds = np.asarray(classes, np.int32).reshape(-1)
        around = np.asarray(masks.boxes() if boxes is None else boxes, np.float32).reshape(-1, 4)
        lengths = {"masks": len(masks), "scores": len(falling), "classes": len(kinds), "boxes": len(around)}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"Detections need one of each per object. Received: {lengths}")
        order = np.argsort(-falling, kind="stable")
        return cls(around[order], falling[order], kinds[order], masks[order])

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[NDArray[np.bool_]],
        scores: ArrayLike,
        classes: ArrayLike,
        size: Size,
        boxes: ArrayLike | None = None,
    ) -> Detections:
        """Return the detections of bool (H, W) masks; see `of`."""
        return cls.of(Masks.from_masks(masks, size), scores, classes, boxes)

    @classmethod
    def from_boxes(cls, boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, size: Size) -> Detections:
        """Return the detections of a network without masks: each box, rounded to pixels, is its mask."""
        around = np.asarray(boxes, np.float32).reshape(-1, 4)
        # What is no number is refused below, by name.
        whole = np.rint(clipped(np.nan_to_num(around), size)).astype(np.int32)
        filled = (np.ones(side, bool) for side in np.maximum(sides(whole), 0))
        return cls.of(Masks.from_crops(filled, whole, size), scores, classes, around)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Sequence[int] | NDArray[Any] | slice) -> Detections:
        """Return some of the detections, by rising indices."""
        indices = np.arange(len(self))[chosen]
        return Detections(
            self.boxes[indices], self.scores[indices], self.classes[indices], self.masks[indices]
        )

    @property
    def size(self) -> Size:
        """(H, W) of the image."""
        return self.masks.size

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return the mask of one detection: bool (H, W)."""
        return self.masks.mask(index)
