"""Scores of the network on the held-out images, while another form of it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kseg.data.batches.feeding import fed
from kseg.inference.evaluate import evaluate
from kseg.inference.keras_runtime import KerasRuntime
from kseg.training.compiled import Compiled, evaluation
from kseg.training.settled import Ground, Settled

Scores = dict[str, float]


def scoring(compiled: Compiled, ground: Ground, settled: Settled, validation: Any) -> Callable[[], Scores]:
    """Return what gives `loss` and the headline of the present network.

    A network with losses inside is scored as `kseg evaluate` does it, its losses by its form; any other by
    the task's own loss and metrics, on batches.

    Args:
        compiled: the network and its form.
        ground: task and held-out samples.
        settled: the values of the run.
        validation: batches of the held-out samples.
    """
    if not compiled.losses_inside:
        plain = fed(validation)
        return lambda: _by_batches(compiled.network, plain)
    by_scorer = _by_scorer(compiled.network, ground, settled)
    truth = fed(compiled.feed(validation))
    return lambda: {**_by_batches(compiled.form, truth), **by_scorer()}


def score_once(
    network: keras.Model, losses_inside: bool, ground: Ground, settled: Settled, validation: Any
) -> Scores:
    """Return the scores of a network that is not in training; without `loss` where that needs its form."""
    if losses_inside:
        return _by_scorer(network, ground, settled)()
    network.compile(**evaluation(ground.goal, settled))
    return _by_batches(network, fed(validation))


def _by_batches(model: keras.Model, batches: Any) -> Scores:
    found = model.evaluate(batches, verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


def _by_scorer(network: keras.Model, ground: Ground, settled: Settled) -> Callable[[], Scores]:
    # One for all epochs: it is traced once, and reads the weights at each call.
    predictor = ground.task.part("predictor")(KerasRuntime(network, settled.spec))
    held_out: Sequence[Any] = ground.held_out or ()
    headline = ground.task.headline
    return lambda: {headline: float(evaluate(predictor, held_out).scores()[headline])}
