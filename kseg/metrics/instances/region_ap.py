"""AP^r: average precision of regions at any IoU, by the protocol of SDS.

Detections of a class are sorted by score over the whole set. Each takes the object of its class and image,
among those not yet covered, that it overlaps most, and is a hit if their IoU is **above** the threshold. AP^r
is the area under the curve of precision over recall, made monotone; AP^r_vol is the mean of AP^r at IoU 0.1,
0.2 ... 0.9. A detection that is no hit and lies in a crowd of its class by more than the threshold (share of
its own area) is neither hit nor miss.

It meets COCO's average precision at one IoU where no IoU equals the threshold (there "at least" is a hit) but
for the area: COCO takes the mean of the same curve at recalls 0, 0.01 ... 1. MNC's released code differs: of
all objects the best, covered or not; "at least"; and the mean of the curve at recalls 0, 0.1 ... 1.

Reference:
    Hariharan, Arbeláez, Girshick, Malik, Simultaneous Detection and Segmentation, ECCV 2014, section 5;
    `evaluation/generalized_det_eval.m` and `evaluation/run_benchmark.m` of its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kseg.metrics.instances.scene import By, Scene

VOLUME = tuple(tenths / 10 for tenths in range(1, 10))


def matches(shares: NDArray[np.float64], above: float) -> NDArray[np.int64]:
    """Return which object each detection covers: (N,), -1 for none.

    Args:
        shares: IoU of detections, the surest first, with objects: (N, M).
        above: IoU that is not enough yet.
    """
    covered = np.full(len(shares), -1, np.int64)
    free = shares.copy()
    for row in np.flatnonzero((shares > above).any(axis=1)):
        best = int(free[row].argmax())
        if free[row, best] > above:
            covered[row] = best
            free[:, best] = -1
    return covered


def precision_recall(
    hits: NDArray[np.bool_], objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return monotone precision and recall after each detection.

    Args:
        hits: of detections, the surest first: bool (N,).
        objects: how many there are to find, 1 or more.
    """
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1], found / objects


def average_precision(hits: NDArray[np.bool_], objects: int) -> float:
    """Return the area under the curve of `precision_recall`."""
    precision, recall = precision_recall(hits, objects)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


class RegionCurves:
    """The detections of one class over a set, to be judged at any IoU; `region_curves` fills them."""

    def __init__(self) -> None:
        self.objects = 0
        self._scores: list[NDArray[np.float32]] = []
        # Per image: IoU with single objects, and the largest share inside a crowd.
        self._shares: list[NDArray[np.float64]] = []
        self._crowded: list[NDArray[np.float64]] = []

    def add(self, scene: Scene, shares: NDArray[np.float64], kind: int) -> None:
        """Take what an image has of class `kind`; `shares` are those of the scene."""
        rows, columns = scene.found.classes == kind, scene.truth.classes == kind
        single, crowd = columns & ~scene.truth.crowd, columns & scene.truth.crowd
        self.objects += int(single.sum())
        self._scores.append(scene.found.scores[rows])
        self._shares.append(shares[np.ix_(rows, single)])
        self._crowded.append(shares[np.ix_(rows, crowd)].max(axis=1, initial=0))

    def hits(self, above: float) -> NDArray[np.bool_]:
        """Return whether each detection that counts is a hit, the surest of the set first: bool (N,)."""
        if not self._scores:
            return np.zeros(0, bool)
        hits = np.concatenate([matches(shares, above) >= 0 for shares in self._shares])
        counts = hits | (np.concatenate(self._crowded) <= above)
        order = np.argsort(-np.concatenate(self._scores), kind="stable")
        return hits[order][counts[order]]

    def ap(self, above: float = 0.5) -> float | None:
        """Return AP^r at one IoU; None where there is no object."""
        return average_precision(self.hits(above), self.objects) if self.objects else None

    def volume(self) -> float | None:
        """Return AP^r_vol; None where there is no object."""
        found = [self.ap(above) for above in VOLUME]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None


def region_curves(scenes: Sequence[Scene], classes: int, by: By = "mask") -> list[RegionCurves]:
    """Return the curves of classes 1 to `classes - 1`.

    Args:
        scenes: in the order that decides between equal scores.
        classes: number of classes with the background.
        by: masks or boxes.
    """
    curves = [RegionCurves() for _ in range(1, classes)]
    for scene in scenes:
        shares = scene.shares(by)
        for kind in np.union1d(scene.found.classes, scene.truth.classes).tolist():
            curves[kind - 1].add(scene, shares, kind)
    return curves
