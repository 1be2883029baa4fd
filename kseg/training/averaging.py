"""Exponential moving average of a network's weights, batch-normalisation statistics included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import Range, whole
from kseg.errors import ArtefactError, UsageError
from kseg.layers.protocols import not_averaged


class AverageWeights(keras.callbacks.Callback):
    """Keep an average of the weights; validation inside `fit` runs on it.

    Validation, the best checkpoint and the saved model use the average; training goes on with its own
    weights, which are put back bit by bit. `momentum` counts per step and grows with the run,
    `min(momentum, (1 + step) / (10 + step))`, so that a short run is not an average with its random
    start. The average is brought up to date every `every` steps with `momentum ** every`, which
    keeps its cost far below one per cent of a step.

    Batch-normalisation's moving mean and variance are averaged with the same momentum: an averaged
    network is made of weights of many steps, and the statistics of the last few do not belong to it.

    Args:
        momentum: in (0, 1); 0.998 is an average over about the last 500 steps.
        every: steps between two updates.
        network: whose weights are averaged; None: the model that `fit` trains.
        keep: leave the average in the network when `fit` ends, instead of the trained weights.

    Example:
        >>> model.fit(train, epochs=60, callbacks=[kseg.training.AverageWeights(keep=True)])

    Reference:
        Polyak and Juditsky (SIAM J. Control Optim. 30, 1992); the growing momentum is that of
        `tf.train.ExponentialMovingAverage(num_updates=...)`.
    """

    def __init__(
        self, momentum: float = 0.998, every: int = 10, network: keras.Model | None = None, keep: bool = False
    ) -> None:
        super().__init__()
        self.momentum = Range(0, 1, above=True, below=True).check(momentum, "momentum")
        self.every = whole(every, "Argument", "every")
        self.keep = keep
        self._network = network
        self.step = 0
        self._average: list[Any] | None = None
        self._trained: list[Any] | None = None

    @property
    def network(self) -> keras.Model:
        """The model whose weights are averaged."""
        return self.model if self._network is None else self._network

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._average is None:
            self._average = _values(self.network)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        if self.step % self.every == 0:
            self._update()

    def _update(self) -> None:
        assert self._average is not None
        momentum = min(self.momentum, (1 + self.step) / (10 + self.step)) ** self.every
        self._average = [
            mean + (variable.value - mean) * (1.0 - momentum)
            for mean, variable in zip(self._average, averaged_variables(self.network), strict=True)
        ]

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._average is not None:
            self._trained = _values(self.network)
            self.apply_to(self.network)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._trained is not None:
            for variable, value in zip(averaged_variables(self.network), self._trained, strict=True):
                variable.assign(value)
            self._trained = None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.keep:
            self.apply_to(self.network)

    def apply_to(self, model: keras.Model) -> None:
        """Write the average into `model`, a network with the same variables in the same order."""
        if self._average is None:
            raise UsageError("There is no average yet: `fit` has not begun with this callback.")
        for variable, mean in zip(averaged_variables(model), self._average, strict=True):
            # A copy, because on JAX a step may take over the buffers of the variables it is given.
            variable.assign(ops.copy(mean))

    def state(self) -> list[np.ndarray]:
        """Return the averages as arrays, in the order of the model's weights (for a checkpoint)."""
        return [ops.convert_to_numpy(mean) for mean in self._average or []]

    def restore(self, step: int, average: Sequence[np.ndarray]) -> None:
        """Continue from `state()` taken at `step`.

        Raises:
            ArtefactError: if it is not the state of the network that was given.
        """
        if self._network is not None:
            fitting = [tuple(variable.shape) for variable in averaged_variables(self._network)]
            if [tuple(mean.shape) for mean in average] != fitting:
                raise ArtefactError(
                    f"The checkpoint holds {len(average)} averaged weights that do not fit the "
                    f"{len(fitting)} of this network. Start again with another --out"
                )
        self.step = step
        self._average = [ops.convert_to_tensor(mean) for mean in average]


def averaged_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the model's weights of floating type: everything but seeds, counters and annealed values."""
    left_out = {id(variable) for variable in not_averaged(model)}
    return [
        variable
        for variable in model.weights
        if "float" in keras.backend.standardize_dtype(variable.dtype) and id(variable) not in left_out
    ]


def _values(model: keras.Model) -> list[Any]:
    # Copies: on TensorFlow a variable's value may share its memory with the next assignment.
    return [ops.copy(variable.value) for variable in averaged_variables(model)]
