"""The outputs of an instance network's graph."""

from __future__ import annotations

from kseg.spec import Spec

BOXES, SCORES, CLASSES, MASKS = "boxes", "scores", "classes", "masks"


def outputs(spec: Spec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes: boxes, scores, classes and masks of so many detections as the network gives.

    How many these are, and how fine the masks, is the network's argument: -1 here.
    """
    return {BOXES: (-1, 4), SCORES: (-1,), CLASSES: (-1,), MASKS: (-1, -1, -1)}
