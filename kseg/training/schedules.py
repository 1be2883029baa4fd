"""Learning-rate schedules: linear warm-up, then cosine, polynomial or constant."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kseg.errors import UsageError

# Chen et al., DeepLab (TPAMI 2018), section 4.1: the "poly" policy.
POLY_POWER = 0.9


class _WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear growth from `learning_rate / warmup_steps` to `learning_rate`, then `_decay(progress)`.

    Args:
        learning_rate: the peak.
        total_steps: steps of the whole run, warm-up included; later steps keep the last value.
        warmup_steps: steps of linear growth, 0 for none. Must be less than `total_steps`.
        end: fraction of the peak that is left at the end.
    """

    def __init__(
        self, learning_rate: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0
    ) -> None:
        super().__init__()
        if total_steps < 1 or not 0 <= warmup_steps < total_steps:
            raise UsageError(
                "A schedule needs total_steps >= 1 and 0 <= warmup_steps < total_steps. "
                f"Received: total_steps={total_steps}, warmup_steps={warmup_steps}"
            )
        self.learning_rate = float(learning_rate)
        self.total_steps = int(total_steps)
        self.warmup_steps = int(warmup_steps)
        self.end = float(end)

    def _decay(self, progress: Any) -> Any:
        raise NotImplementedError

    def __call__(self, step: Any) -> Any:
        """Return the learning rate (float32 scalar) of the 0-based `step`."""
        step = ops.cast(step, "float32")
        # Counted from 1: step 0 of a warm-up that starts at exactly 0 would be a wasted step.
        growth = (step + 1.0) / max(self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        decayed = self.end + (1.0 - self.end) * self._decay(progress)
        return self.learning_rate * ops.where(step < self.warmup_steps, growth, decayed)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "end": self.end,
        }


@keras.saving.register_keras_serializable(package="kseg")
class WarmUpCosine(_WarmUp):
    """Linear warm-up, then half a cosine down to `end * learning_rate`.

    Args:
        learning_rate: the peak.
        total_steps: steps of the whole run, warm-up included.
        warmup_steps: steps of linear growth.
        end: fraction of the peak that is left at the end.

    Reference:
        Loshchilov and Hutter, SGDR (ICLR 2017), equation 5, without restarts.
    """

    def _decay(self, progress: Any) -> Any:
        return 0.5 * (1.0 + ops.cos(math.pi * progress))


@keras.saving.register_keras_serializable(package="kseg")
class WarmUpPolynomial(_WarmUp):
    """Linear warm-up, then `(1 - progress) ** power`.

    Args:
        learning_rate: the peak.
        total_steps: steps of the whole run, warm-up included.
        warmup_steps: steps of linear growth.
        end: fraction of the peak that is left at the end.
        power: exponent; 0.9 is the usual one for segmentation.

    Reference:
        Chen et al., DeepLab (TPAMI 2018), section 4.1.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        end: float = 0.0,
        power: float = POLY_POWER,
    ) -> None:
        super().__init__(learning_rate, total_steps, warmup_steps, end)
        self.power = float(power)

    def _decay(self, progress: Any) -> Any:
        return ops.power(1.0 - progress, self.power)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="kseg")
class WarmUpConstant(_WarmUp):
    """Linear warm-up, then a constant learning rate.

    Args:
        learning_rate: the value after the warm-up.
        total_steps: steps of the whole run.
        warmup_steps: steps of linear growth.
    """

    def _decay(self, progress: Any) -> Any:
        return ops.ones_like(progress)
