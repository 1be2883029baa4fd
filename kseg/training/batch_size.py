"""How many images fit into a training step: found by steps, on the CPU bounded by an estimate before."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kseg.errors import KsegError
from kseg.machine import backend, host
from kseg.models.summary import activations, parameters
from kseg.training.precision import LEAST_GAIN

START = 8
MOST = 256
# An epoch of fewer steps hardly trains.
LEAST_STEPS_PER_EPOCH = 8
# Validation, averaged weights and the fragments of hours of work need room, too.
SPARE = 8
TIMED_STEPS = 2
# On the CPU a step that does not fit takes the machine down: only this share of the free memory is used.
CPU_SHARE = 0.5
FLOAT_BYTES = 4
# Bytes of a step over bytes of the forward pass's results; more than any network of the tests takes.
STEP_FACTOR = 2.5
# Weight, gradient, the optimiser's two moments, the average, a copy in flight.
COPIES_OF_WEIGHTS = 6
_ERRORS = ("XlaRuntimeError", "JaxRuntimeError", "InternalError", "UnknownError")
_WORDS = ("RESOURCE_EXHAUSTED", "out of memory", "OUT_OF_MEMORY", "_ALLOC_FAILED")

Seconds = Callable[[int], float | None]


class OutOfMemoryError(KsegError):
    """A training step does not fit into the device's memory."""


@dataclass(frozen=True)
class Found:
    """A batch size and, in one line, why."""

    size: int
    reason: str


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend (or Python) says by `error` that memory ran out."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return True
    return name in _ERRORS and any(word.lower() in text.lower() for word in _WORDS)


class Steps:
    """Real training steps with any number of images.

    Args:
        build: returns the compiled network; called again after a step that did not fit, as such a step may
            leave weights behind that cannot be used any more.
        batch: `(images, masks)` of a step; its images are repeated as often as needed.
        clock: gives seconds.
    """

    def __init__(
        self, build: Callable[[], keras.Model], batch: Any, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._build, self._batch, self._clock = build, batch, clock
        self._model: keras.Model | None = None

    def seconds(self, size: int) -> float | None:
        """Return the time of the fastest of a few steps with `size` images, or None when they do not fit."""
        try:
            return self._timed(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, as the error holds on to the tensors of its step.
        self._model = None
        gc.collect()
        return None

    def _timed(self, size: int) -> float:
        batch = keras.tree.map_structure(lambda part: part[np.arange(size) % len(part)], self._batch)
        self._model = self._model or self._build()
        self._model.train_on_batch(*batch)
        taken = []
        for _ in range(TIMED_STEPS):
            started = self._clock()
            self._model.train_on_batch(*batch)
            taken.append(self._clock() - started)
        return min(taken)


def largest(fits: Callable[[int], bool], least: int, beyond: int) -> int:
    """Return about the largest size that fits, by bisection between one that does (or 0) and one beyond."""
    while beyond - least > max(1, least // SPARE):
        middle = (least + beyond) // 2
        if fits(middle):
            least = middle
        else:
            beyond = middle
    return least


def find(seconds: Seconds, most: int, bound: str = "") -> Found:
    """Return the batch size from which on more images do not pay, or do not fit.

    Starting from 8 (or what fits of it) the size is doubled as long as a step's images/s grow by a tenth.

    Args:
        seconds: time of a step by its size; None: it does not fit.
        most: the largest size to try, at least 1.
        bound: what sets `most`, for the reason.

    Raises:
        OutOfMemoryError: if not even one image fits.
    """
    size = min(START, most)
    taken = seconds(size)
    if taken is None:
        size = largest(lambda tried: seconds(tried) is not None, 0, size)
        if not size:
            raise OutOfMemoryError("Not even one image fits into memory. " + SMALLER)
        return Found(size, "the largest that fits")
    speeds = {size: size / taken}
    ending = bound or f"no more than {most} are tried"
    while size < most:
        wanted = min(2 * size, most)
        taken = seconds(wanted)
        if taken is None:
            fitting = largest(lambda tried: seconds(tried) is not None, size, wanted)
            size, ending = max(size, fitting - fitting // SPARE), f"{fitting} is about the largest that fits"
            break
        speeds[wanted] = wanted / taken
        if speeds[wanted] < LEAST_GAIN * speeds[size]:
            ending = "more does not pay"
            break
        size = wanted
    told = ", ".join(f"{tried} {speed:.1f}" for tried, speed in speeds.items())
    return Found(size, f"images/s of a training step by batch size: {told}; {ending}")


def estimated_bytes(network: keras.Model, size: tuple[int, int]) -> tuple[int, int]:
    """Return the bytes that training takes whatever the batch, and the bytes per image of `size`."""
    _, total = parameters(network)
    per_image = int(STEP_FACTOR * FLOAT_BYTES * activations(network, size))
    return COPIES_OF_WEIGHTS * FLOAT_BYTES * total, max(1, per_image)


def most_for_memory(network: keras.Model, size: tuple[int, int]) -> int | None:
    """Return how many images a step may have on the CPU, at least 1; None on an accelerator, or not known."""
    free = host.available_bytes()
    if free is None or backend.look().accelerators:
        return None
    fixed, per_image = estimated_bytes(network, size)
    return max(1, int((CPU_SHARE * free - fixed) // per_image))


SMALLER = "Lower --size or --crop, or take a smaller network (see `kseg models`)"
