"""The outputs of an instance network's graph."""

from __future__ import annotations

from kseg.spec import Spec
from kseg.tasks import ANY

BOXES, SCORES, CLASSES, MASKS = "boxes", "scores", "classes", "masks"


def outputs(spec: Spec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes: boxes, scores, classes and masks of so many detections as the network gives.

    How many these are, and how fine the masks, is the network's argument.
    """
    return {BOXES: (ANY, 4), SCORES: (ANY,), CLASSES: (ANY,), MASKS: (ANY, ANY, ANY)}
