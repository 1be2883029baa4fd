"""What kind of errors detections are, and what they miss.

The first of these that holds, for detections of an image from the surest on:

- `correct`: of the objects of its class not yet covered, the one that it overlaps most, by an IoU above 0.5.
- `duplicate`: IoU above 0.5 with an object of its class that is covered.
- `crowd`: more than half of it lies in a crowd of its class; neither right nor wrong.
- `mislocalised`: IoU above 0.1 with an object of its class.
- `wrong_class`: IoU above 0.1 with an object of another class.
- `background`: all others.

And of the objects that are no crowd: `missed`, which no detection covers.

Reference:
    Hoiem, Chodpathumwan, Dai, Diagnosing Error in Object Detectors, ECCV 2012; SDS, section 5, which counts
    duplicates as mislocalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kseg.data.detections import Detections
from kseg.data.instances import Instances
from kseg.metrics.instances.region_ap import matches
from kseg.metrics.instances.scene import Found, Scene, Truth

VERDICTS = ("correct", "duplicate", "crowd", "mislocalised", "wrong_class", "background")
ENOUGH, LEAST = 0.5, 0.1


def verdicts(scene: Scene, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Judge some detections of an image.

    Args:
        scene: the image.
        chosen: bool (N,), the detections that count.

    Returns:
        For each of those its place in `VERDICTS`; for each object whether it is missed (crowds never are).
    """
    shares, classes = scene.shares()[chosen], scene.found.classes[chosen]
    crowd = scene.truth.crowd
    own = classes[:, None] == scene.truth.classes[None]
    single = np.where(own & ~crowd, shares, 0.0)
    # Two classes have no object in common: matches of one do not touch the other's.
    covered = matches(single, ENOUGH)
    most = single.max(axis=1, initial=0.0)
    reasons = [
        covered >= 0,
        most > ENOUGH,
        np.where(own & crowd, shares, 0.0).max(axis=1, initial=0.0) > ENOUGH,
        most > LEAST,
        np.where(~own & ~crowd, shares, 0.0).max(axis=1, initial=0.0) > LEAST,
        np.ones(len(classes), bool),
    ]
    missed = ~crowd
    missed[covered[covered >= 0]] = False
    return np.argmax(reasons, axis=0), missed


def judged(instances: Instances, detections: Detections) -> tuple[list[str], NDArray[np.int32]]:
    """Return the verdict on each detection of an image, and the ids of the objects that are missed."""
    size = instances.layers.shape[1], instances.layers.shape[2]
    scene = Scene("", size, Truth.of(instances), Found.of(detections, len(detections)))
    found, missed = verdicts(scene, np.ones(len(detections), bool))
    return [VERDICTS[index] for index in found], instances.ids()[missed]


def count_errors(
    scenes: Sequence[Scene], classes: int, *, at_least: float = -np.inf, best: int | None = None
) -> NDArray[np.int64]:
    """Count verdicts and missed objects.

    Args:
        scenes: the images.
        classes: number of classes with the background.
        at_least: score of the detections that count.
        best: how many of an image count at most, the surest; None: all.

    Returns:
        int64 (classes - 1, 7): a row per class (of detections for `VERDICTS`, of objects for missed, the
        last column).
    """
    counts = np.zeros((classes, len(VERDICTS) + 1), np.int64)
    for scene in scenes:
        chosen = scene.found.scores >= at_least
        chosen[len(chosen) if best is None else best :] = False
        found, missed = verdicts(scene, chosen)
        np.add.at(counts, (scene.found.classes[chosen], found), 1)
        np.add.at(counts[:, -1], scene.truth.classes[missed], 1)
    return counts[1:]
