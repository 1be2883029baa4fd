"""Trainings that have failed: a loss that is no number, or one far above its start that stays there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kseg.errors import KsegError
from kseg.training.checkpoint import Divergence
from kseg.training.optimizers import learning_rate

# A mean cross-entropy of 30 gives the true class a probability of 1e-13. Noise, class weights that differ by
# a hundred and a warm restart from trained weights stay below.
FAR = 30.0
# So large a share of the epochs in a row, at least so many, is no bad start: the warm-up is a twentieth.
STAYS_SHARE = 0.2
STAYS_LEAST = 3
REMEDY = (
    "Try a lower --learning-rate, more --warmup-steps, --clip-norm 1 or --precision float32, "
    "with another --out"
)


class TrainingDivergedError(KsegError):
    """The loss is no longer a number, or has left for values that mean nothing."""

    exit_code = 1


class StopOnNaN(keras.callbacks.Callback):
    """Raise `TrainingDivergedError` at the first step whose loss is NaN or infinite.

    Args:
        loss: what the message calls the loss.

    Raises:
        TrainingDivergedError: names loss, epoch, step and learning rate, and what to try.
    """

    def __init__(self, loss: str = "loss") -> None:
        super().__init__()
        self.loss = loss
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        value = float(np.asarray((logs or {}).get("loss", 0.0)))
        if math.isfinite(value):
            return
        params = self.params or {}
        rate = learning_rate(self.model.optimizer)
        raise TrainingDivergedError(
            f"The loss ({self.loss}) became {value} in epoch {self._epoch + 1}, step {batch + 1} of "
            f"{params.get('steps') or '?'}, at learning rate {rate:.3g}. {REMEDY}"
        )


class StopOnDivergence(StopOnNaN):
    """`StopOnNaN`, and an error too when the loss leaves for values far above its start and stays there.

    The start is the loss of the first step, before any weight has changed. An epoch is far when the mean loss
    of the second half of its steps exceeds `30 * max(start, 1)`. The training has diverged when its last
    epoch is far, or a fifth of all epochs (at least three) in a row were: it then stops. A peak that comes
    back is no divergence.

    It must stand before callbacks that ask whether the epoch is `far`.

    Args:
        loss: what the message calls the loss.

    Raises:
        TrainingDivergedError: at the end of `fit`; names the loss, its start and what to try.
    """

    def __init__(self, loss: str = "loss") -> None:
        super().__init__(loss)
        self.start: float | None = None
        self.value = 0.0
        self.in_a_row = 0
        self._means: list[float] = []

    @property
    def far(self) -> bool:
        """Whether the latest epoch was far above the start."""
        return self.in_a_row > 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, JSON-ready."""
        return {"start": self.start, "value": self.value, "in_a_row": self.in_a_row}

    def restore(self, state: Divergence) -> None:
        """Continue from what a checkpoint kept of `state()`."""
        self.start, self.value, self.in_a_row = state.start, state.value, state.in_a_row

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._means = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        # Keras gives the mean since the epoch began; of the first step it is the loss itself.
        mean = float(np.asarray((logs or {}).get("loss", 0.0)))
        self._means.append(mean)
        # A batch whose every pixel is void has no loss to start from.
        if not self.start:
            self.start = mean

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._means:
            return
        self.value = _second_half(self._means)
        self.in_a_row = self.in_a_row + 1 if self.value > FAR * max(self.start or 0.0, 1.0) else 0
        epochs = int((self.params or {}).get("epochs") or 1)
        if self.in_a_row >= max(STAYS_LEAST, math.ceil(STAYS_SHARE * epochs)):
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.judge()

    def judge(self) -> None:
        """Raise `TrainingDivergedError` if the latest epoch is far above the start."""
        if self.far:
            raise TrainingDivergedError(
                f"Training diverged: the loss ({self.loss}) began at {self.start:.3g}, was {self.value:.3g} "
                f"after epoch {self._epoch + 1} and did not come back. {REMEDY}"
            )


def _second_half(means: list[float]) -> float:
    """Return the mean of the later half of the steps from the running means of all of them."""
    count, half = len(means), len(means) // 2
    before = means[half - 1] if half else 0.0
    return (count * means[-1] - half * before) / (count - half)
