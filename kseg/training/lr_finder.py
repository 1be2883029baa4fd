"""The learning-rate range test: which rate to train with, found in a hundred steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
from keras import ops

from kseg.errors import KsegError, UsageError
from kseg.progress import Say
from kseg.training.compiled import Networks
from kseg.training.config import AUTO, TrainConfig
from kseg.training.feeds import make_feeds
from kseg.training.limits import MOST
from kseg.training.settled import look, settle_numbers
from kseg.training.starting_weights import begin

LOW, HIGH, STEPS = 1e-6, 10.0, 100
LEAST_STEPS = 20
SMOOTHING = 0.9
# Beyond so many times the lowest loss nothing more is learned from going on.
STOP = 4.0
# The loss is lowest just before it breaks away; a tenth of that rate is as fast as is safe.
SAFE = 0.1


@dataclass(frozen=True)
class RateTest:
    """What a range test found.

    Args:
        suggestion: the rate to train with: a tenth of `lowest`.
        lowest: the rate at which the smoothed loss was lowest.
        rates: of each step, growing.
        losses: smoothed loss of each step.
    """

    suggestion: float
    lowest: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


class _Growth(keras.optimizers.schedules.LearningRateSchedule):
    """From `low` to `high` in equal factors."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        super().__init__()
        self.low, self.high, self.steps = low, high, steps

    def __call__(self, step: Any) -> Any:
        share = ops.cast(step, "float32") / (self.steps - 1)
        return self.low * ops.exp(share * math.log(self.high / self.low))

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "steps": self.steps}


def find_learning_rate(
    model: keras.Model, data: Any, *, low: float = LOW, high: float = HIGH, steps: int = STEPS
) -> RateTest:
    """Train for some steps at a rate that grows from `low` to `high`; put everything back.

    The model is left with the weights, the optimiser and the metrics that it had. Its optimiser's kind and
    arguments are used, weight decay left out. The test ends early when the loss breaks away.

    Args:
        model: compiled.
        data: `(inputs, targets)` batches: a `PyDataset`, or anything that can be looped over several times.
        low: the first rate.
        high: the last rate.
        steps: of the whole test, at least 20.

    Raises:
        UsageError: if the model is not compiled, there is no batch, or a value is out of range.
        KsegError: if no rate made the loss fall.

    Example:
        >>> found = kseg.training.find_learning_rate(model, train)
        >>> model.compile(keras.optimizers.AdamW(found.suggestion), loss=model.loss)

    Reference:
        Smith, Cyclical Learning Rates for Training Neural Networks (WACV 2017), section 3.3, with the loss
        for the accuracy; the tenth of the lowest point is the usual reading of its curve.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise UsageError("find_learning_rate needs a compiled model: call model.compile(...) first")
    if not 0 < low < high <= MOST or not isinstance(steps, int) or steps < LEAST_STEPS:
        raise UsageError(
            f"A range test needs 0 < low < high <= {MOST:g} and steps >= {LEAST_STEPS}. "
            f"Received: low={low!r}, high={high!r}, steps={steps!r}"
        )
    growth = _Growth(float(low), float(high), steps)
    before = [ops.convert_to_numpy(variable).copy() for variable in model.variables]
    try:
        _use(model, _with_rate(optimizer, growth))
        losses = _run(model, data, steps)
    finally:
        _use(model, optimizer)
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    rates = [float(ops.convert_to_numpy(growth(step))) for step in range(len(losses))]
    least = min(range(len(losses)), key=losses.__getitem__)
    if least == 0:
        raise KsegError(
            f"No learning rate from {low:g} to {high:g} made the loss fall below its start "
            f"({losses[0]:.3g}): try a lower `low`, and look at data and loss"
        )
    return RateTest(SAFE * rates[least], rates[least], tuple(rates), tuple(losses))


def find_for(
    config: TrainConfig, say: Say, low: float = LOW, high: float = HIGH, steps: int = STEPS
) -> RateTest:
    """Make the range test for the network and the data of a run; nothing is written.

    Args:
        config: the run; its learning rate, schedule and epochs play no part. Precision `"auto"` is float32.
        say: prints one line.
        low: the first rate.
        high: the last rate.
        steps: of the test.

    Raises:
        KsegError: as `train` and `find_learning_rate`.
    """
    ground = look(config, None, say)
    feeds = make_feeds(config, ground, config.images_per_step)
    settled = settle_numbers(config, ground, feeds, config.images_per_step)
    if config.precision != AUTO:
        settled = replace(settled, precision=config.precision)
    compiled = Networks(config, ground).chosen(settled)
    begin(compiled.network, config.init_from, feeds.batches, say)
    return find_learning_rate(compiled.form, compiled.feed(feeds.batches), low=low, high=high, steps=steps)


def _with_rate(optimizer: keras.optimizers.Optimizer, rate: Any) -> keras.optimizers.Optimizer:
    """Return a fresh optimiser of the same kind and arguments, with another rate and without decay."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return type(optimizer)(_with_rate(inner, rate))
    config = {**optimizer.get_config(), "learning_rate": rate}
    if config.get("weight_decay"):
        config["weight_decay"] = 0.0
    return type(optimizer).from_config(config)


def _use(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Let `model` train with `optimizer`: its compiled step belongs to the one before."""
    model.optimizer = optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    model.make_train_function(force=True)


def _run(model: keras.Model, data: Any, steps: int) -> list[float]:
    losses: list[float] = []
    mean = 0.0
    for step, batch in zip(range(steps), _endless(data), strict=False):
        # Otherwise Keras gives the mean since the last reset.
        model.reset_metrics()
        loss = float(model.train_on_batch(*batch, return_dict=True)["loss"])
        if not math.isfinite(loss):
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        losses.append(mean / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > STOP * max(min(losses), 1e-12) and step >= LEAST_STEPS:
            break
    if not losses:
        raise UsageError("find_learning_rate: the data gave no batch with a finite loss")
    return losses


def _endless(data: Any) -> Iterator[Any]:
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    while True:
        empty = True
        for batch in (data[index] for index in range(len(data))) if indexed else data:
            empty = False
            yield batch
        if empty:
            return
