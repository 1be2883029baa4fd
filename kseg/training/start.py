"""What a network knows before its first step: weights of another one, and what its layers learn from data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg import saving
from kseg.layers.protocols import adapting, annealing
from kseg.models.registry import learned
from kseg.models.transfer import transfer

ADAPT_IMAGES = 64


def init_from(model: keras.Model, path: str, say: Callable[[str], None]) -> list[str]:
    """Copy the weights of the layers that `model` shares with the network in a `.keras` file.

    Returns:
        Names of the layers that were copied.

    Raises:
        ArtefactError: if the file is not one of kseg's.
        UsageError: if the two share no layer.
    """
    source = saving.load(path)
    copied = transfer(source, model)
    here = learned(model.info.architecture, model.info.arch_args)
    for name, value in learned(source.info.architecture, source.info.arch_args).items():
        if here.get(name, value) != value:
            say(f"{path} has learned its weights with {name}={value!r}, and this network has {here[name]!r}")
    weighted = [layer.name for layer in model.layers if layer.weights]
    new = [name for name in weighted if name not in copied]
    say(f"weights of {len(copied)} of {len(weighted)} layers from {path}; new: {', '.join(new) or 'none'}")
    return copied


def adapt(
    model: keras.Model,
    batches: Any,
    say: Callable[[str], None],
    images: int = ADAPT_IMAGES,
    known: Collection[str] = (),
) -> None:
    """Let the layers that learn from data (`kseg.layers.protocols.Adapts`) see their inputs on images.

    In the order of the graph, as a later layer sees what the earlier one makes of the data.

    Args:
        model: the network; changed in place.
        batches: gives `(images, ...)`.
        images: about how many images are shown.
        known: names of layers that have learned already.
    """
    layers = [layer for layer in adapting(model) if layer.name not in known]
    if not layers:
        return
    shown: list[Any] = []
    for index in range(len(batches)):
        shown.append(batches[index][0])
        if sum(len(batch) for batch in shown) >= images:
            break
    for layer in layers:
        below = keras.Model(model.input, layer.input)
        values = [ops.convert_to_numpy(below(batch, training=False)) for batch in shown]
        layer.adapt(np.concatenate(values))
        say(f"{layer.name}: adapted to {sum(len(batch) for batch in shown)} training images")


class Anneal(keras.callbacks.Callback):
    """Tell the layers that anneal (`kseg.layers.protocols.Anneals`) how far the training is.

    Args:
        network: the network whose layers are told; a number from 0 (first epoch) to 1 (last).
        epochs: epochs of the whole run.
    """

    def __init__(self, network: keras.Model, epochs: int) -> None:
        super().__init__()
        self.layers = annealing(network)
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for layer in self.layers:
            layer.anneal(min(1.0, epoch / max(1, self.epochs - 1)))
