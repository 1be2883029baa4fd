"""Scores of segmentation: one confusion matrix, counted in exact integers.

`Confusion` needs numpy only. The Keras metrics (`MeanIoU` and the rest) are over the same definitions
and load Keras on first use.
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

if TYPE_CHECKING:
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
    "MeanAccuracy",
    "MeanIoU",
    "MeanIoUPresent",
    "PixelAccuracy",
    "SegmentationMetrics",
    "chance_miou",
    "near_chance",
]

# Names load on first use.
__getattr__, __dir__ = lazy(__name__, dict.fromkeys(_KERAS, "keras_metrics"))
