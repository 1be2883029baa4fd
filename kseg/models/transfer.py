"""Start one network from another: FCN-16s from a trained FCN-32s, FCN-8s from FCN-16s."""

from __future__ import annotations

from typing import Any

import keras

from kseg.errors import UsageError
from kseg.layers.protocols import wiring


def _namesakes(source: keras.Model, target: keras.Model) -> list[tuple[Any, Any]]:
    """Return the layers of both that have one name and weights of the same shapes, or none."""
    given = {layer.name: layer for layer in source.layers}
    pairs = [(given[layer.name], layer) for layer in target.layers if layer.name in given]
    return [
        (old, new) for old, new in pairs if [w.shape for w in old.weights] == [w.shape for w in new.weights]
    ]


def _check_wiring(source: keras.Model, target: keras.Model) -> None:
    """Refuse weights for another draw of the connections that layers make at random (`Wired`)."""
    for old, new in _namesakes(source, target):
        if wiring(old) != wiring(new):
            raise UsageError(
                f"Layer '{new.name}' of {target.name} has other connections or regions than in "
                f"{source.name}, so its weights would stand at wrong places. Give both the same `seed` and "
                "the same arguments of that layer"
            )


def shared(source: keras.Model, target: keras.Model) -> list[str]:
    """Return the names of `target`'s layers whose weights have the shapes of their namesakes' in `source`."""
    return [new.name for _, new in _namesakes(source, target) if new.weights]


def transfer(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy the weights of every layer that both networks have under one name and with one shape.

    FCN is trained in stages this way: the finer network begins with what the coarser one knows, and its
    new skip begins at zero.

    Args:
        source: trained network.
        target: network to start; changed in place.

    Returns:
        Names of the layers that were copied.

    Raises:
        UsageError: if they share no layer, or one whose random connections differ.

    Example:
        >>> fine = FCN16s(num_classes=11, encoder="resnet18")
        >>> copied = transfer(coarse, fine)
    """
    _check_wiring(source, target)
    copied = shared(source, target)
    for name in copied:
        target.get_layer(name).set_weights(source.get_layer(name).get_weights())
    if not copied:
        raise UsageError(
            f"transfer: {source.name} and {target.name} share no layer (same name and same shapes), so "
            "there is nothing to copy. Build both with the same encoder, width and head_channels."
        )
    return copied
