"""What a layer may declare beyond Keras, and who asks: training, its averages, and the transfer of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np


@runtime_checkable
class Adapts(Protocol):
    """Learns from its inputs before the first step.

    Attributes:
        adapts: whether it does; other layers of Keras have an `adapt`, too.
    """

    adapts: bool

    def adapt(self, values: np.ndarray) -> None:
        """Learn from `values`, inputs of this layer on training images."""


@runtime_checkable
class Anneals(Protocol):
    """Changes while the network is trained."""

    def anneal(self, progress: float) -> None:
        """Be told, before each epoch, how far the training is: 0 in the first, 1 in the last."""


@runtime_checkable
class Wired(Protocol):
    """Has connections or regions that are drawn at random.

    Attributes:
        wiring: what was drawn, comparable by `==`; weights mean something with the same wiring only.
    """

    @property
    def wiring(self) -> Any: ...


@runtime_checkable
class NotAveraged(Protocol):
    """Has variables that are set, not learned, so that no average of weights may hold them.

    Attributes:
        not_averaged: these variables.
    """

    @property
    def not_averaged(self) -> Sequence[keras.Variable]: ...


def adapting(model: keras.Model) -> list[Any]:
    """Return the layers that learn from their inputs before the first step, in the order of the graph."""
    return [layer for layer in model.layers if isinstance(layer, Adapts) and layer.adapts]


def annealing(model: keras.Model) -> list[Anneals]:
    """Return the layers that are told how far the training is."""
    return [layer for layer in model.layers if isinstance(layer, Anneals)]


def wiring(layer: keras.layers.Layer) -> Any:
    """Return what was drawn for the connections of a layer; None for a layer without such."""
    return layer.wiring if isinstance(layer, Wired) else None


def not_averaged(model: keras.Model) -> Iterator[keras.Variable]:
    """Yield the variables, of nested models too, that an average of weights leaves out."""
    for layer in model.layers:
        if isinstance(layer, NotAveraged):
            yield from layer.not_averaged
        if isinstance(layer, keras.Model):
            yield from not_averaged(layer)
