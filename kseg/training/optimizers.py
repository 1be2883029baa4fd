"""The optimiser of a run and its warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kseg.errors import UsageError

if TYPE_CHECKING:
    import keras

    from kseg.training.config import TrainConfig

# Names that the arguments `optimizer` and `schedule` may have -> classes of Keras, and of `schedules`. The
# command line shows them: Keras is imported at its use.
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
SCHEDULES = {"cosine": "WarmUpCosine", "poly": "WarmUpPolynomial", "constant": "WarmUpConstant"}
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
    config: TrainConfig,
    total_steps: int,
    variables: Sequence[keras.Variable],
    usual_factors: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Return the optimiser with its schedule; weight decay leaves biases and normalisation alone.

    Args:
        config: the arguments of the run.
        total_steps: steps of the whole run, which the schedule is stretched over.
        variables: the trainable variables of the network.
        usual_factors: on the learning rate, by variable path, where the config has no `lr_multipliers`.
    """
    import keras

    from kseg.training import schedules
    from kseg.training.multipliers import multipliers, with_multipliers

    schedule = getattr(schedules, SCHEDULES[config.schedule])
    rate = schedule(config.learning_rate, total_steps, warmup_steps(config, total_steps))
    options: dict[str, Any] = {
        "learning_rate": rate,
        "global_clipnorm": config.clip_norm,
        "weight_decay": config.weight_decay or None,
    }
    kind = getattr(keras.optimizers, OPTIMIZERS[config.optimizer])
    if config.optimizer == "sgd":
        options |= {"momentum": config.momentum, "nesterov": True}
    elif config.optimizer == "adamw":
        options["weight_decay"] = config.weight_decay
    given = config.lr_multipliers
    factors = multipliers(given, variables) if given else usual_factors
    if factors:
        kind = with_multipliers(kind, factors)
    optimizer = kind(**options)
    # By variable, not by name: on TensorFlow Keras matches names against the whole path of a variable.
    optimizer.exclude_from_weight_decay(var_list=[item for item in variables if item.name in NOT_DECAYED])
    return optimizer


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the learning rate of the step that comes next."""
    import keras

    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return float(keras.ops.convert_to_numpy(inner.learning_rate))
