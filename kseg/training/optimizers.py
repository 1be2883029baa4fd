"""The optimiser of a run and its warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kseg.errors import UsageError
from kseg.training import schedules
from kseg.training.config import TrainConfig

# Biases and normalisation's scale and offset have no capacity to decay: decaying them only slows training.
NOT_DECAYED = ("bias", "gamma", "beta")
WARMUP_SHARE = 0.05
WARMUP_MOST = 150


def warmup_steps(config: TrainConfig, total_steps: int) -> int:
    """Return the warm-up of a run: as asked, or 5 % of it, at most 150 steps; always less than the run."""
    asked = config.warmup_steps
    if asked is None:
        return min(WARMUP_MOST, int(WARMUP_SHARE * total_steps))
    if asked >= total_steps:
        raise UsageError(
            f"Argument `warmup_steps` must be less than the {total_steps} steps of this run. "
            f"Received: warmup_steps={asked}"
        )
    return asked


def create_optimizer(
    config: TrainConfig, total_steps: int, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Return the optimiser with its schedule; weight decay leaves biases and normalisation alone.

    Args:
        config: the arguments of the run.
        total_steps: steps of the whole run, which the schedule is stretched over.
        variables: the trainable variables of the network.
    """
    rate = schedules.create(
        config.schedule, config.learning_rate, total_steps, warmup_steps(config, total_steps)
    )
    options: dict[str, Any] = {"learning_rate": rate, "global_clipnorm": config.clip_norm}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            momentum=0.9, nesterov=True, weight_decay=config.weight_decay or None, **options
        )
    elif config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(weight_decay=config.weight_decay or None, **options)
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay, **options)
    # By variable, not by name: on TensorFlow Keras matches names against the whole path of a variable.
    optimizer.exclude_from_weight_decay(var_list=[item for item in variables if item.name in NOT_DECAYED])
    return optimizer


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the step that comes next."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return float(keras.ops.convert_to_numpy(inner.learning_rate))
