"""The truth of an instance network's form with losses."""

from __future__ import annotations

from typing import Any

import keras

from kseg.layers.detection import TRUE_SIDE


def truth_inputs() -> dict[str, Any]:
    """Return the inputs of the truth: what `kseg.instance.targets` makes of a sample."""
    return {
        "true_boxes": keras.Input((None, 4), name="true_boxes"),
        "true_classes": keras.Input((None,), dtype="int32", name="true_classes"),
        "true_objects": keras.Input((None,), name="true_objects"),
        "true_crowds": keras.Input((None,), name="true_crowds"),
        "true_masks": keras.Input((None, TRUE_SIDE, TRUE_SIDE), dtype="uint8", name="true_masks"),
    }
