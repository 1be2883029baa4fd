"""Decoded images held in memory, as far as they fit."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kseg.errors import UsageError

CacheMode = Literal["auto", "memory", "none"]
CACHE_MODES = ("auto", "memory", "none")
_SHARE = 0.25


def available_memory() -> int:
    """Return the bytes that this process may still take (of the machine or its container)."""
    free = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free.append(max(int(limit.read_text()) - int(used.read_text()), 0))
    if not free and hasattr(os, "sysconf"):  # no /proc: half of the machine's memory is a fair guess
        free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return min(free, default=4 << 30)


class DecodedCache:
    """Decoded (image, mask) by index, up to a number of bytes; what no longer fits is decoded each time."""

    def __init__(self, mode: str) -> None:
        if mode not in CACHE_MODES:
            raise UsageError(f"Argument `cache` must be one of {CACHE_MODES}. Received: cache={mode!r}")
        shares = {"auto": _SHARE, "memory": math.inf, "none": 0.0}
        self._room = shares[mode] * available_memory() if mode == "auto" else shares[mode]
        self._held: dict[int, tuple[str, np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def get(self, index: int, make: Callable[[int], tuple[str, np.ndarray, np.ndarray]]) -> Any:
        held = self._held.get(index)
        if held is not None:
            return held
        made = make(index)
        size = made[1].nbytes + made[2].nbytes
        with self._lock:
            if size <= self._room and index not in self._held:
                self._held[index] = made
                self._room -= size
        return made
