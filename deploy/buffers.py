"""Memory for answers, used again once nobody holds the answer.

A fresh array of several megabytes comes from the system page by page, and each page costs a fault: for many
classes that takes about as long as a small int8 network.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

# Spare buffers kept: one for the caller's next call, one for another thread's.
_SPARE = 2


class _Lease:
    """Owns a buffer for as long as an array, or a view of it, refers to it; then gives it back."""

    def __init__(self, memory: np.ndarray, home: collections.deque[np.ndarray]) -> None:
        self._memory, self._home = memory, home

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._memory.__array_interface__

    def __del__(self) -> None:
        # Appending to a bounded deque is atomic and never fails; the oldest spare falls out.
        self._home.append(self._memory)


class Buffers:
    """Gives float32 arrays whose memory comes back by itself when the last view of them is gone.

    Safe to share between threads. An array belongs to the caller alone for as long as the caller, or
    anything made from it without a copy, holds it.
    """

    def __init__(self) -> None:
        self._spare: collections.deque[np.ndarray] = collections.deque(maxlen=_SPARE)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a writable, C-contiguous float32 array of `shape`, its values undefined."""
        memory = None
        while memory is None:
            try:
                spare = self._spare.pop()
            except IndexError:
                memory = np.empty(shape, np.float32)
            else:
                # Of another batch size: let it go rather than keep a buffer per size.
                memory = spare if spare.shape == shape else None
        return np.asarray(_Lease(memory, self._spare))


class OutputBuffers:
    """Memory for answers of several outputs, each used again by itself.

    Args:
        outputs: name -> shape, batch left out.
    """

    def __init__(self, outputs: Mapping[str, tuple[int, ...]]) -> None:
        self._outputs = dict(outputs)
        self._buffers = {name: Buffers() for name in outputs}

    def take(self, count: int) -> dict[str, np.ndarray]:
        """Return an array `(count, *shape)` for each output, as `Buffers.take` does."""
        return {name: self._buffers[name].take((count, *shape)) for name, shape in self._outputs.items()}
