"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kseg.errors import UsageError
from kseg.losses.base import PixelLoss


@keras.saving.register_keras_serializable(package="kseg")
class Combined(keras.losses.Loss):
    """The sum `w_1 * loss_1 + w_2 * loss_2 + ...`, for example cross-entropy + Dice.

    Each part reduces for itself.

    Args:
        losses: the parts, `PixelLoss` objects (or their serialised form).
        weights: one finite factor >= 0 per part. None: all 1.
        name: name of the loss.
    """

    def __init__(
        self,
        losses: Sequence[PixelLoss | dict[str, Any]],
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.losses = [
            keras.saving.deserialize_keras_object(loss) if isinstance(loss, dict) else loss for loss in losses
        ]
        self.weights = [1.0] * len(self.losses) if weights is None else [float(value) for value in weights]
        if not self.losses or not all(isinstance(loss, PixelLoss) for loss in self.losses):
            raise UsageError(f"Combined `losses` must be kseg losses, at least one. Received: {losses!r}")
        usable = all(np.isfinite(value) and value >= 0 for value in self.weights)
        if len(self.weights) != len(self.losses) or not usable:
            raise UsageError(
                f"Combined `weights` must be one finite number >= 0 per loss ({len(self.losses)}). "
                f"Received: {weights!r}"
            )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the weighted sum. Shapes: see `PixelLoss`."""
        parts = zip(self.weights, self.losses, strict=True)
        return sum(weight * loss(y_true, y_pred, sample_weight) for weight, loss in parts)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"losses": losses, "weights": self.weights, "name": self.name}
