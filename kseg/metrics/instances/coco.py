"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kseg.metrics.instances.scene import By, Scene, of_size

AREAS = ("all", "small", "medium", "large")


@dataclass(frozen=True)
class CocoTable:
    """What COCOeval found.

    Args:
        precision: (IoU 0.5 to 0.95, recall 0 to 1, class, `AREAS`); -1 where there is no object.
        recall: (IoU, class, `AREAS`), likewise.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def ap(self, iou: float | None = None, area: str = "all", kind: int | None = None) -> float | None:
        """Return average precision; None where no object counts.

        Args:
            iou: 0.5, 0.55 ... 0.95; None: the mean over them.
            area: one of `AREAS`.
            kind: a class, 1 or more; None: the mean over classes.
        """
        found = self.precision[..., AREAS.index(area)]
        if iou is not None:
            found = found[[round((iou - 0.5) / 0.05)]]
        return _mean(found if kind is None else found[:, :, kind - 1])

    def ar(self, kind: int | None = None) -> float | None:
        """Return average recall over IoU 0.5 to 0.95; see `ap`."""
        found = self.recall[..., 0]
        return _mean(found if kind is None else found[:, kind - 1])


def _mean(values: NDArray[np.float64]) -> float | None:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


class _Evaluation(COCOeval):
    """COCOeval with the same matches, found in a fraction of the time.

    Its own loop visits each pair of a detection and an object for each IoU and area; here a detection is
    held against the few objects that it overlaps enough.
    """

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:
        """Match the detections of one image and class; returns what `accumulate` reads."""
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truth and not found:
            return None
        order = np.argsort([-entry["score"] for entry in found], kind="mergesort")[:maxDet]
        found = [found[index] for index in order]
        ignored = np.array([entry["ignore"] or _outside(entry, aRng) for entry in truth], bool)
        # Objects that count come first, as in COCOeval.
        last = np.argsort(ignored, kind="mergesort")
        ignored, crowd = ignored[last], np.array([truth[index]["iscrowd"] for index in last], bool)
        overlaps = np.reshape(self.ious[imgId, catId], (len(found), len(truth)))[:, last]
        matched, dropped = self._matches(overlaps, ignored, crowd)
        outside = np.array([_outside(entry, aRng) for entry in found], bool)
        return {
            "dtScores": [entry["score"] for entry in found],
            "dtMatches": matched,
            "dtIgnore": dropped | (~matched & outside),
            "gtIgnore": ignored,
        }

    def _matches(
        self, overlaps: NDArray[np.float64], ignored: NDArray[np.bool_], crowd: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return at each IoU which detections have a match, and which have one that does not count."""
        # An exact copy matches at 1 too, whatever rounding does.
        thresholds = [min(value, 1 - 1e-10) for value in self.params.iouThrs]
        matched = np.zeros((len(thresholds), len(overlaps)), bool)
        dropped = np.zeros_like(matched)
        taken: list[set[int]] = [set() for _ in thresholds]
        close = overlaps >= min(thresholds)
        for row in np.flatnonzero(close.any(axis=1)):
            near = [(int(index), float(overlaps[row, index])) for index in np.flatnonzero(close[row])]
            for level, threshold in enumerate(thresholds):
                best, reached = -1, threshold
                for index, value in near:
                    if index in taken[level] and not crowd[index]:
                        continue
                    if best > -1 and ignored[index] and not ignored[best]:
                        break
                    if value >= reached:
                        best, reached = index, value
                if best > -1:
                    matched[level, row], dropped[level, row] = True, ignored[best]
                    taken[level].add(best)
        return matched, dropped


def _outside(entry: dict[str, Any], areas: list[float]) -> bool:
    return bool(entry["area"] < areas[0] or entry["area"] > areas[1])


def coco_table(scenes: Sequence[Scene], classes: int, by: By, most: int) -> CocoTable:
    """Run COCOeval.

    Args:
        scenes: in the order that decides between equal scores.
        classes: number of classes with the background.
        by: masks or boxes.
        most: detections that count, per image and class.
    """
    truth = [entry for index, scene in enumerate(scenes) for entry in _truth(scene, index)]
    found = [entry for index, scene in enumerate(scenes) for entry in _found(scene, index, by)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints on its way
        evaluation = _Evaluation(
            _records(truth, scenes, classes),
            _records(found, scenes, classes),
            "segm" if by == "mask" else "bbox",
        )
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoTable(evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0])


def _records(annotations: list[dict[str, Any]], scenes: Sequence[Scene], classes: int) -> COCO:
    found = COCO()
    found.dataset = {
        "images": [
            {"id": index, "height": scene.size[0], "width": scene.size[1]}
            for index, scene in enumerate(scenes)
        ],
        "categories": [{"id": index} for index in range(1, classes)],
        # From 1 on: it takes a match with id 0 for none.
        "annotations": [{"id": index, **entry} for index, entry in enumerate(annotations, start=1)],
    }
    found.createIndex()
    return found


def _truth(scene: Scene, image: int) -> list[dict[str, Any]]:
    truth = scene.truth
    return [
        {
            "image_id": image,
            "category_id": int(truth.classes[index]),
            "segmentation": code,
            "bbox": truth.boxes[index].tolist(),
            "area": float(truth.areas[index]),
            "iscrowd": int(truth.crowd[index]),
        }
        for index, code in enumerate(of_size(truth.codes, scene.size))
    ]


def _found(scene: Scene, image: int, by: By) -> list[dict[str, Any]]:
    found = scene.found
    # As COCO.loadRes: a detection is as large as what it is judged by.
    areas = found.areas if by == "mask" else found.boxes[:, 2:].prod(axis=1)
    return [
        {
            "image_id": image,
            "category_id": int(found.classes[index]),
            "segmentation": code,
            "bbox": found.boxes[index].tolist(),
            "area": float(areas[index]),
            "score": float(found.scores[index]),
        }
        for index, code in enumerate(of_size(found.codes, scene.size))
    ]
