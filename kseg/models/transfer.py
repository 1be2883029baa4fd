"""Start one network from another: FCN-16s from a trained FCN-32s, FCN-8s from FCN-16s."""

from __future__ import annotations

import keras

from kseg.errors import UsageError


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
        UsageError: if they share no layer.

    Example:
        >>> fine = FCN16s(num_classes=11, encoder="resnet18")
        >>> copied = transfer(coarse, fine)
    """
    given = {layer.name: layer for layer in source.layers if layer.weights}
    copied = []
    for layer in target.layers:
        twin = given.get(layer.name)
        if twin is None or [w.shape for w in twin.weights] != [w.shape for w in layer.weights]:
            continue
        layer.set_weights(twin.get_weights())
        copied.append(layer.name)
    if not copied:
        raise UsageError(
            f"transfer: {source.name} and {target.name} share no layer (same name and same shapes), so "
            "there is nothing to copy. Build both with the same encoder, width and head_channels."
        )
    return copied
