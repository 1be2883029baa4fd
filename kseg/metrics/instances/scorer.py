"""Scores of detections against instances: COCO's average precision, AP^r, and the kinds of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kseg.checks import whole
from kseg.data.detections import Detections
from kseg.data.instances import Instances
from kseg.errors import DataError, UsageError
from kseg.metrics.instances.coco import AREAS, CocoTable, coco_table
from kseg.metrics.instances.errors import ENOUGH, VERDICTS, count_errors
from kseg.metrics.instances.region_ap import matches, region_curves
from kseg.metrics.instances.scene import By, Found, Scene, Truth, encoded, of_size, shares

# nuclei has images with 375 objects; COCO's own 100 would cut them off.
MOST = 400


class InstanceScorer:
    """Scores detections, one image after another; two scorers merge by `+`.

    Masks are kept as run lengths, some bytes each. Of equal scores, those of the image whose name comes
    first go first: the scores do not depend on the order in which images were added.

    - `ap`: COCO's mask AP, the mean over IoU 0.5, 0.55 ... 0.95 and over classes that have an object;
      `ap50`, `ap75`: at one IoU; `ap_small` (up to 32 x 32 pixels), `ap_medium`, `ap_large` (from 96 x 96
      on): areas of masks. `ar`: the mean recall. `box_ap` and so on: of boxes.
    - `apr50`, `apr70`, `apr_vol`: AP^r by the protocol of SDS, see `region_ap`; means over classes.

    All are in 0..1, None where there is no object that counts. Areas and boxes of objects are those of their
    painted masks, not the numbers beside the polygons of a COCO file: its boxes can be some tenths of a pixel
    larger. Objects without a pixel do not count, and crowds are neither hit nor miss.

    Args:
        classes: names with the background first, as `spec.classes` of instance data.
        most: detections that count per image and class (COCO's `maxDets`), the surest.
        confident: score of the detections that `agreement` and `summary()["errors"]` look at.

    Raises:
        UsageError: if an argument is out of range.
    """

    def __init__(self, classes: Sequence[str], most: int = MOST, confident: float = 0.5) -> None:
        self.classes = tuple(classes)
        if len(self.classes) < 2:
            raise UsageError(
                "InstanceScorer `classes` must be the background and at least one class. "
                f"Received: {list(self.classes)}"
            )
        self.most = whole(most, "InstanceScorer", "most")
        self.confident = float(confident)
        self._scenes: list[Scene] = []
        self._found: dict[str, Any] = {}

    def add(self, sample: Any, prediction: Detections) -> None:
        """Count the detections of one image against its instances.

        Args:
            sample: with `name`, `image` (H, W, 3) and `instances`.
            prediction: at the size of the image.

        Raises:
            DataError: if the sample has no instances, of another size than its image, or of unknown classes.
            UsageError: if the detections are.
        """
        truth, size = sample.instances, tuple(sample.image.shape[:2])
        self._check_truth(sample.name, truth, size)
        kinds = prediction.classes
        if prediction.size != size or (kinds >= len(self.classes)).any():
            raise UsageError(
                f"Sample '{sample.name}' is {size[0]}x{size[1]} and has {len(self.classes)} classes. "
                f"Received: detections for {prediction.size[0]}x{prediction.size[1]} with classes up to "
                f"{kinds.max(initial=0)}"
            )
        self._scenes.append(Scene(sample.name, size, Truth.of(truth), Found.of(prediction, self.most)))
        self._found = {}

    def _check_truth(self, name: str, truth: Instances | None, size: tuple[int, ...]) -> None:
        if truth is None:
            raise DataError(f"Sample '{name}' has no instances: this data set holds classes of pixels only")
        high, wide = truth.layers.shape[1:]
        if (high, wide) != size:
            raise DataError(
                f"Sample '{name}': its instances are {high}x{wide}, its image {size[0]}x{size[1]}. "
                "Run: kseg check-data DIR"
            )
        outside = truth.classes[(truth.classes < 1) | (truth.classes >= len(self.classes))]
        if outside.size:
            raise DataError(
                f"Sample '{name}' has an instance of class {outside[0]}; classes are 1-"
                f"{len(self.classes) - 1} (0 is background)"
            )

    def scores(self) -> dict[str, Any]:
        """Return every score, JSON-ready.

        Returns:
            The scores above; `images`, `objects` (crowds left out), `detections`; and `classes`: name ->
            `ap`, `ap50`, `ap75`, `box_ap`, `apr50`, `apr70`, `apr_vol`, `objects`, `detections`.

        Raises:
            DataError: if there is no object: no score is defined then.
        """
        self._found = self._found or self._evaluated()
        return dict(self._found)

    def _evaluated(self) -> dict[str, Any]:
        scenes, count = self._sorted(), len(self.classes)
        curves = region_curves(scenes, count)
        objects = sum(curve.objects for curve in curves)
        if not objects:
            raise DataError(
                f"There is nothing to score: {len(scenes)} images were given, and none has an object that "
                "counts. Run: kseg check-data DIR"
            )
        masks, boxes = (coco_table(scenes, count, by, self.most) for by in ("mask", "box"))
        detections = np.bincount(np.concatenate([scene.found.classes for scene in scenes]), minlength=count)
        rows = {
            name: {
                "ap": masks.ap(kind=kind),
                "ap50": masks.ap(0.5, kind=kind),
                "ap75": masks.ap(0.75, kind=kind),
                "box_ap": boxes.ap(kind=kind),
                "apr50": curve.ap(0.5),
                "apr70": curve.ap(0.7),
                "apr_vol": curve.volume(),
                "objects": curve.objects,
                "detections": int(detections[kind]),
            }
            for kind, (name, curve) in enumerate(zip(self.classes[1:], curves, strict=True), start=1)
        }
        regions = {
            key: float(np.mean([row[key] for row in rows.values() if row["objects"]]))
            for key in ("apr50", "apr70", "apr_vol")
        }
        counts = {"images": len(scenes), "objects": objects, "detections": int(detections.sum())}
        return {**_means(masks, ""), **_means(boxes, "box_"), **regions, **counts, "classes": rows}

    def _sorted(self) -> list[Scene]:
        return sorted(self._scenes, key=lambda scene: scene.name)

    def comparable(self) -> float:
        """Return `ap`."""
        return float(self.scores()["ap"])

    def parts(self) -> dict[str, float | None]:
        """Return `ap` of each class; None where there is no object."""
        return {name: row["ap"] for name, row in self.scores()["classes"].items()}

    def chance(self) -> float:
        """Return 0: nothing is found without looking at an image."""
        return 0.0

    def agreement(self, one: Detections, other: Detections) -> tuple[int, int]:
        """Return how many of the confident detections of both have a partner in the other, and of how many.

        A partner is of the same class, at any score, and has an IoU above 0.5; each has one at most. Two that
        find nothing agree: (1, 1).
        """
        first, second = (of_size(encoded(found.masks), found.size) for found in (one, other))
        overlaps = shares(first, second, np.zeros(len(second), bool))
        partner = matches(np.where(one.classes[:, None] == other.classes[None], overlaps, 0.0), ENOUGH)
        met = np.zeros(len(second), bool)
        met[partner[partner >= 0]] = True
        sure, other_sure = (found.scores >= self.confident for found in (one, other))
        total = int(sure.sum() + other_sure.sum())
        return (int((partner[sure] >= 0).sum() + met[other_sure].sum()), total) if total else (1, 1)

    def region_ap(self, above: float = 0.5, by: By = "mask") -> dict[str, float | None]:
        """Return AP^r of each class at any IoU, or AP^b, the same of boxes; None where there is no object."""
        curves = region_curves(self._sorted(), len(self.classes), by)
        return {name: curve.ap(above) for name, curve in zip(self.classes[1:], curves, strict=True)}

    def errors(self, *, at_least: float = -np.inf, best: int | None = None) -> dict[str, Any]:
        """Return what kind of errors detections are, as `kseg.metrics.instances.errors` defines them.

        Args:
            at_least: score of the detections that count.
            best: how many of an image count at most, the surest; None: all.

        Returns:
            `correct`, `duplicate`, `crowd`, `mislocalised`, `wrong_class`, `background`, `missed`: counts;
            and `classes`: name -> the same.
        """
        names = (*VERDICTS, "missed")
        counts = count_errors(self._scenes, len(self.classes), at_least=at_least, best=best)
        rows = {
            name: dict(zip(names, row.tolist(), strict=True))
            for name, row in zip(self.classes[1:], counts, strict=True)
        }
        return {**dict(zip(names, counts.sum(axis=0).tolist(), strict=True)), "classes": rows}

    def summary(self) -> dict[str, Any]:
        """Return all scores, and the `errors` of confident detections."""
        errors = self.errors(at_least=self.confident)
        return {**self.scores(), "errors": {"at_least": self.confident, **errors}}

    def __add__(self, other: InstanceScorer) -> InstanceScorer:
        if (self.classes, self.most, self.confident) != (other.classes, other.most, other.confident):
            raise UsageError("Only scorers with the same classes, `most` and `confident` can be added")
        merged = InstanceScorer(self.classes, self.most, self.confident)
        merged._scenes = self._scenes + other._scenes
        return merged


def _means(table: CocoTable, prefix: str) -> dict[str, float | None]:
    found = {"ap": table.ap(), "ap50": table.ap(0.5), "ap75": table.ap(0.75)}
    found |= {f"ap_{area}": table.ap(area=area) for area in AREAS[1:]}
    return {f"{prefix}{key}": value for key, value in {**found, "ar": table.ar()}.items()}
