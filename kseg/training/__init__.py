"""Training: `train(TrainConfig(...))` wires data, model, loss and callbacks into a plain `model.fit`.

Every part can be used alone with `model.fit`: the schedules, `AverageWeights` (EMA), `StopOnDivergence`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kseg.lazy import lazy

_NAMES = {
    "TrainConfig": "config",
    "train": "trainer",
    "find_learning_rate": "lr_finder",
    "WarmUpCosine": "schedules",
    "WarmUpPolynomial": "schedules",
    "WarmUpConstant": "schedules",
    "AverageWeights": "averaging",
    "StopOnNaN": "divergence",
    "StopOnDivergence": "divergence",
    "TrainingDivergedError": "divergence",
}

if TYPE_CHECKING:
    from kseg.training.averaging import AverageWeights
    from kseg.training.config import TrainConfig
    from kseg.training.divergence import StopOnDivergence, StopOnNaN, TrainingDivergedError
    from kseg.training.lr_finder import find_learning_rate
    from kseg.training.schedules import WarmUpConstant, WarmUpCosine, WarmUpPolynomial
    from kseg.training.trainer import train

__all__ = [
    "AverageWeights",
    "StopOnDivergence",
    "StopOnNaN",
    "TrainConfig",
    "TrainingDivergedError",
    "WarmUpConstant",
    "WarmUpCosine",
    "WarmUpPolynomial",
    "find_learning_rate",
    "train",
]

# Names load on first use.
__getattr__, __dir__ = lazy(__name__, _NAMES)
