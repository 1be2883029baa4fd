"""The dtype policy: which one is fastest here is measured, not guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

# A reduced precision must pay: below this factor float32 is kept, because it is exact.
LEAST_GAIN = 1.1
# Fewer steps than this are over before the timing would have paid.
LEAST_STEPS = 200


@dataclass(frozen=True)
class Choice:
    """A dtype policy and, in one line, why."""

    policy: str
    reason: str


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers under Keras' dtype policy `name` inside the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def jit_compile() -> bool | str:
    """Return Keras' `jit_compile`: off on TensorFlow's CPU, where XLA's convolutions are slower."""
    if keras.backend.backend() == "tensorflow" and not _accelerators():
        return False
    return "auto"


def candidates() -> tuple[str, ...]:
    """Return the policies worth timing on this hardware, float32 first."""
    if keras.backend.backend() == "tensorflow" and _accelerators():
        import tensorflow as tf

        details = [
            tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")
        ]
        capability = min((tuple(item.get("compute_capability", (0, 0))) for item in details), default=(0, 0))
        # Tensor cores take float16 since Volta (7.0), and bfloat16, which needs no loss scaling, since
        # Ampere (8.0).
        if capability < (7, 0):
            return ("float32",)
        if capability < (8, 0):
            return ("float32", "mixed_float16")
    return ("float32", "mixed_bfloat16")


def _accelerators() -> list[str]:
    return [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]


def choose(
    build: Callable[[], keras.Model],
    batch: tuple[Any, Any],
    *,
    seconds: float = 4.0,
    policies: Sequence[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Time training steps under each policy, interleaved, and return the fastest.

    Args:
        build: returns a compiled model; it is called once under each policy.
        batch: `(images, masks)` of one step.
        seconds: time spent on timed steps, tracing not counted.
        policies: candidates, float32 first; None: those that this hardware can be fast with.
        clock: gives seconds.
    """
    names = tuple(policies or candidates())
    if len(names) == 1:
        return Choice(names[0], "no reduced precision is fast on this hardware")
    models = {}
    for name in names:
        with dtype_policy(name):
            models[name] = build()
            models[name].train_on_batch(*batch)
    best = dict.fromkeys(names, float("inf"))
    spent = 0.0
    rounds = 0
    # The minimum of interleaved steps: other work on the machine slows both, and never speeds one up.
    while rounds < 2 or spent < seconds:
        for name, model in models.items():
            started = clock()
            model.train_on_batch(*batch)
            taken = clock() - started
            best[name] = min(best[name], taken)
            spent += taken
        rounds += 1
    return _decide(best, len(batch[0]))


def _decide(best: dict[str, float], images: int) -> Choice:
    speeds = ", ".join(f"{name} {images / taken:.1f}" for name, taken in best.items())
    plain, *_ = best
    fastest = min(best, key=best.__getitem__)
    if best[plain] / best[fastest] < LEAST_GAIN:
        return Choice(
            plain, f"images/s of a training step: {speeds}; no other is {LEAST_GAIN:g} times as fast"
        )
    return Choice(fastest, f"images/s of a training step: {speeds}")
