"""The layer stack that own encoders are written on: it names layers, thins them, and remembers them."""

from __future__ import annotations

from typing import Any

import keras

from kseg.layers.widths import channels


class Stack:
    """Adds named layers and keeps them by their plain name, so that weights can be loaded into them.

    Args:
        width: factor on the number of channels, rounded to a multiple of 8 when it is not 1.
        prefix: put before every layer name; for networks with two encoders of one kind.
        scratch: whether the encoder is trained from nothing.
    """

    def __init__(self, width: float = 1.0, prefix: str = "", scratch: bool = True) -> None:
        self.width = width
        self.scratch = scratch
        self.prefix = prefix
        self.layers: dict[str, keras.layers.Layer] = {}

    def channels(self, count: int) -> int:
        """Return `count` thinned by the width."""
        return channels(count, self.width)

    def add(self, layer_class: type[keras.layers.Layer], *args: Any, name: str, **kwargs: Any) -> Any:
        """Make a layer named `prefix + name` and remember it under `name`."""
        layer = layer_class(*args, name=self.prefix + name, **kwargs)
        self.layers[name] = layer
        return layer
