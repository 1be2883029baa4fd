"""Networks without values: how large one is, before it takes memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import keras
from keras.src.backend.common import global_state

from kseg.keras_file import at_most_weights, is_bounded

# 4 GB in float32; the largest network here, DeconvNet, has 0.25 billion and is built at once.
MOST_WEIGHTS = 2**30
_AT_ONCE = 2**28

T = TypeVar("T")


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Networks made inside have weights with shapes but no values: quick to make, impossible to run.

    FCN over VGG-16 has 134 million parameters, which take seconds and half a gigabyte to draw.
    """
    # Keras would draw the values of all such weights when the next scope of its own ends.
    waiting = global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before = len(waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        del waiting[before:]


class _LargeError(Exception):
    """More weights than are made without having been counted first."""


def bounded(build: Callable[[], T], name: str) -> T:
    """Return what `build` makes, a network of `MOST_WEIGHTS` numbers at most.

    Args:
        build: makes the network; called again, for shapes only, where it turns out to be large.
        name: of the network, for the message.

    Raises:
        UsageError: if it is larger; the memory for it was never asked for.
    """
    if is_bounded():
        return build()
    try:
        with at_most_weights(_AT_ONCE, name, _LargeError):
            return build()
    except _LargeError:
        refusal = f"{name} with these arguments has more than {MOST_WEIGHTS:,} weights. Make it smaller"
        with shapes_only(), at_most_weights(MOST_WEIGHTS, refusal):
            build()
    return build()
