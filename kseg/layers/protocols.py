"""What a layer may declare beyond Keras: each a protocol, and one function that asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np


@runtime_checkable
class Adapts(Protocol):
    """Learns from its inputs on training images before the first step, where `adapts` is true."""

    adapts: bool

    def adapt(self, values: np.ndarray) -> None:
        """Learn from `values`, all inputs of this layer."""


@runtime_checkable
class Anneals(Protocol):
    """Changes in the course of training."""

    def anneal(self, progress: float) -> None:
        """Be told, before each epoch, how far the training is: 0 in the first, 1 in the last."""


@runtime_checkable
class Wired(Protocol):
    """Has connections or regions drawn at random; its weights mean something with an equal `wiring` only."""

    @property
    def wiring(self) -> Any: ...


@runtime_checkable
class NotAveraged(Protocol):
    """Has variables that are set, not learned, so that no average of weights may hold them."""

    @property
    def not_averaged(self) -> Sequence[keras.Variable]: ...


@runtime_checkable
class Loops(Protocol):
    """Repeats until nothing changes, by a loop of the graph, where `steps` is None; else so many times."""

    steps: int | None


@runtime_checkable
class Pretrained(Protocol):
    """Has weights that were learned elsewhere, where `pretrained` is true."""

    pretrained: bool


def adapting(model: keras.Model) -> list[Any]:
    """Return the layers that `Adapts` tells of, in the order of the graph."""
    return [layer for layer in model.layers if isinstance(layer, Adapts) and layer.adapts]


def annealing(model: keras.Model) -> list[Anneals]:
    """Return the layers that `Anneals` tells of."""
    return [layer for layer in model.layers if isinstance(layer, Anneals)]


def wiring(layer: keras.layers.Layer) -> Any:
    """Return what was drawn for a layer that is `Wired`, None for another."""
    return layer.wiring if isinstance(layer, Wired) else None


def not_averaged(model: keras.Model) -> Iterator[keras.Variable]:
    """Yield the variables that `NotAveraged` tells of, those of nested models too."""
    for layer in model.layers:
        if isinstance(layer, NotAveraged):
            yield from layer.not_averaged
        if isinstance(layer, keras.Model):
            yield from not_averaged(layer)


def pretrained(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers that `Pretrained` tells of."""
    return [layer for layer in model.layers if isinstance(layer, Pretrained) and layer.pretrained]


@contextlib.contextmanager
def unrolled(model: keras.Model, steps: int) -> Iterator[None]:
    """Have the layers that `Loops` tells of repeat `steps` times while this lasts."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, Loops) and layer.steps is None]
    for layer in found:
        layer.steps = steps
    try:
        yield
    finally:
        for layer in found:
            layer.steps = None
