"""One image as a scorer of objects keeps it: truth and detections, masks as pycocotools' codes (some bytes).

Not the image, and no mask of its size: a data set of any length can be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as codec

from kseg.data.detections import Detections
from kseg.data.instances import Instances
from kseg.data.run_lengths import Masks, Size

By = Literal["mask", "box"]


def encoded(masks: Masks) -> tuple[bytes, ...]:
    """Return pycocotools' code of each mask."""
    runs = [{"size": list(masks.size), "counts": runs} for runs in masks.runs]
    return tuple(entry["counts"] for entry in codec.frPyObjects(runs, *masks.size)) if runs else ()


def of_size(codes: Sequence[bytes], size: Size) -> list[dict[str, Any]]:
    """Return codes in the form that pycocotools' functions take."""
    return [{"size": list(size), "counts": code} for code in codes]


def shares(found: Any, truth: Any, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of each of N detections with each of M objects, by pycocotools: float64 (N, M).

    Of a crowd: the share of the detection that lies inside.

    Args:
        found, truth: both codes with their sizes, or both boxes `(x, y, width, height)`.
        crowd: bool (M,).
    """
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    return np.asarray(codec.iou(found, truth, crowd.astype(np.uint8).tolist()), np.float64)


def corners(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Return boxes `(y0, x0, y1, x1)` as COCO writes them: `(x, y, width, height)`."""
    y0, x0, y1, x1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    return np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)


@dataclass(frozen=True, eq=False)
class Truth:
    """The M objects of an image that have a pixel."""

    codes: tuple[bytes, ...]
    boxes: NDArray[np.float64]
    areas: NDArray[np.int64]
    classes: NDArray[np.int32]
    crowd: NDArray[np.bool_]

    @classmethod
    def of(cls, instances: Instances) -> Truth:
        """Encode instances; boxes are the smallest around their masks, as `corners`."""
        masks = Masks.from_layers(instances.layers, len(instances))
        seen = np.flatnonzero(masks.areas())
        masks = masks[seen]
        return cls(
            codes=encoded(masks),
            boxes=corners(masks.boxes()),
            areas=masks.areas(),
            classes=instances.classes[seen],
            crowd=instances.crowd[seen],
        )


@dataclass(frozen=True, eq=False)
class Found:
    """The N detections of an image, the surest first."""

    codes: tuple[bytes, ...]
    boxes: NDArray[np.float64]
    areas: NDArray[np.int64]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, detections: Detections, most: int) -> Found:
        """Encode detections: of each class the `most` surest."""
        # Their place among those of their class.
        place = np.zeros(len(detections), np.int64)
        for kind in np.unique(detections.classes):
            chosen = detections.classes == kind
            place[chosen] = np.arange(chosen.sum())
        kept = detections[place < most]
        return cls(
            codes=encoded(kept.masks),
            boxes=corners(kept.boxes),
            areas=kept.masks.areas(),
            classes=kept.classes,
            scores=kept.scores,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """Truth and detections of one image."""

    name: str
    size: Size
    truth: Truth
    found: Found

    def shares(self, by: By = "mask") -> NDArray[np.float64]:
        """Return `shares` of all detections with all objects, by masks or by boxes."""
        if by == "box":
            return shares(self.found.boxes, self.truth.boxes, self.truth.crowd)
        found, truth = (of_size(codes, self.size) for codes in (self.found.codes, self.truth.codes))
        return shares(found, truth, self.truth.crowd)
