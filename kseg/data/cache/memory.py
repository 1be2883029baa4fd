"""Decoded samples held in memory, as far as they fit."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Literal

from kseg.data.sample import Sample
from kseg.errors import UsageError
from kseg.machine.host import available_bytes

CacheMode = Literal["auto", "memory", "none"]
CACHE_MODES = ("auto", "memory", "none")
_SHARE = 0.25
# Of a system that tells nothing of its memory.
_GUESS = 4 << 30


def available_memory() -> int:
    """Return the bytes that this process may still take (of the machine or its container)."""
    free = available_bytes()
    if free is None and hasattr(os, "sysconf"):  # no /proc: half of the machine's memory is a fair guess
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return _GUESS if free is None else free


class DecodedCache:
    """Decoded samples by index, up to a number of bytes; what no longer fits is decoded each time."""

    def __init__(self, mode: str) -> None:
        if mode not in CACHE_MODES:
            raise UsageError(f"Argument `cache` must be one of {CACHE_MODES}. Received: cache={mode!r}")
        shares = {"auto": _SHARE, "memory": math.inf, "none": 0.0}
        self._room = shares[mode] * available_memory() if mode == "auto" else shares[mode]
        self._held: dict[int, Sample] = {}
        self._lock = threading.Lock()

    def get(self, index: int, make: Callable[[int], Sample]) -> Sample:
        """Return the sample of an index: the one that is held, or `make(index)`."""
        held = self._held.get(index)
        if held is not None:
            return held
        made = make(index)
        size = made.image.nbytes + made.mask.nbytes
        if made.instances is not None:
            size += made.instances.layers.nbytes
        with self._lock:
            if size <= self._room and index not in self._held:
                self._held[index] = made
                self._room -= size
        return made
