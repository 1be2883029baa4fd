"""Scores of segmentation: one confusion matrix, counted in exact integers; of objects, `instances`.

`Confusion` needs numpy only. The Keras metrics (`MeanIoU` and the rest) are over the same definitions
and load Keras on first use; scores of objects load pycocotools when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kseg.lazy import lazy
from kseg.metrics.chance import chance_miou, near_chance
from kseg.metrics.confusion import SCORES, Confusion

_KERAS = (
    "ClassIoU",
    "ConfusionMatrix",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanIoU",
    "MeanIoUPresent",
    "PixelAccuracy",
    "SegmentationMetrics",
)

_OBJECTS = ("InstanceScorer", "ProposalRecall")

if TYPE_CHECKING:
    from kseg.metrics.instances import InstanceScorer, ProposalRecall
    from kseg.metrics.keras_metrics import (
        ClassIoU,
        ConfusionMatrix,
        FrequencyWeightedIoU,
        MeanAccuracy,
        MeanIoU,
        MeanIoUPresent,
        PixelAccuracy,
        SegmentationMetrics,
    )

__all__ = [
    "SCORES",
    "ClassIoU",
    "Confusion",
    "ConfusionMatrix",
    "FrequencyWeightedIoU",
    "InstanceScorer",
    "MeanAccuracy",
    "MeanIoU",
    "MeanIoUPresent",
    "PixelAccuracy",
    "ProposalRecall",
    "SegmentationMetrics",
    "chance_miou",
    "near_chance",
]

# Names load on first use.
__getattr__, __dir__ = lazy(
    __name__, {**dict.fromkeys(_KERAS, "keras_metrics"), **dict.fromkeys(_OBJECTS, "instances")}
)
