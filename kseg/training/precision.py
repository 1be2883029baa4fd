"""The dtype policy and compilation by XLA: which ones are fastest here is measured, not guessed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kseg.machine import backend
from kseg.machine.backend import Backend

if TYPE_CHECKING:
    import keras

# What the arguments `precision` and `xla` may be. The command line shows them: Keras is imported at its use.
AUTO = "auto"
PRECISIONS = (AUTO, "float32", "mixed_bfloat16", "mixed_float16")
XLA = (AUTO, "on", "off")
# A reduced precision, or XLA, must pay: below this factor float32 without XLA is kept.
LEAST_GAIN = 1.1
# Fewer steps than this are over before the timing would have paid.
LEAST_STEPS = 200
# Tensor cores take float16 since Volta (7.0), and bfloat16, which needs no loss scaling, since Ampere (8.0).
VOLTA, AMPERE = (7, 0), (8, 0)

Clock = Callable[[], float]


@dataclass(frozen=True)
class Choice:
    """A dtype policy and, in one line, why."""

    policy: str
    reason: str


@dataclass(frozen=True)
class Compilation:
    """Keras' `jit_compile` and, in one line, why."""

    jit: bool
    reason: str


def jit_compile() -> bool | str:
    """Return Keras' `jit_compile` for what is not timed: off on TensorFlow's CPU, where XLA is slower."""
    import keras

    if keras.backend.backend() == "tensorflow" and not backend.look().accelerators:
        return False
    return "auto"


def candidates(seen: Backend | None = None) -> tuple[str, ...]:
    """Return the policies worth timing on what the backend sees (None: look), float32 first."""
    seen = backend.look() if seen is None else seen
    if not seen.gpus:
        return ("float32", "mixed_bfloat16")
    capability = min(gpu.capability or (0, 0) for gpu in seen.gpus)
    if capability < VOLTA:
        return ("float32",)
    return ("float32", "mixed_float16" if capability < AMPERE else "mixed_bfloat16")


def compilation(seen: Backend | None = None) -> Compilation | None:
    """Return how a step is compiled on what the backend sees, or None where timing decides."""
    seen = backend.look() if seen is None else seen
    if seen.name == "jax":
        return Compilation(True, "JAX compiles every step by XLA")
    if seen.name != "tensorflow":
        return Compilation(False, f"not timed on {seen.name}")
    if not seen.accelerators:
        return Compilation(False, "on TensorFlow's CPU XLA's convolutions are slower")
    return None


def choose(
    build: Callable[[str], keras.Model],
    batch: tuple[Any, Any],
    *,
    seconds: float = 4.0,
    policies: Sequence[str] | None = None,
    clock: Clock = time.perf_counter,
) -> Choice:
    """Time training steps under each policy, interleaved, and return the fastest.

    Args:
        build: returns a model compiled under a policy; it is called once for each.
        batch: `(images, masks)` of one step.
        seconds: time spent on timed steps, tracing not counted.
        policies: candidates, float32 first; None: those that this hardware can be fast with.
        clock: gives seconds.
    """
    names = tuple(policies or candidates())
    if len(names) == 1:
        return Choice(names[0], "no reduced precision is fast on this hardware")
    best, failed = _time(build, names, batch, seconds, clock)
    return Choice(*_decide(best, failed, len(batch[0])))


def choose_compilation(
    build: Callable[[bool], keras.Model],
    batch: tuple[Any, Any],
    *,
    seconds: float = 4.0,
    clock: Clock = time.perf_counter,
) -> Compilation:
    """Time training steps without and with XLA, interleaved; a network that XLA cannot compile goes without.

    Args:
        build: returns a model compiled with the given `jit_compile`.
        batch: `(images, masks)` of one step.
        seconds: time spent on timed steps, compiling not counted.
        clock: gives seconds.
    """
    plain, xla = "without XLA", "with XLA"
    best, failed = _time(lambda name: build(name == xla), (plain, xla), batch, seconds, clock)
    chosen, reason = _decide(best, failed, len(batch[0]))
    return Compilation(chosen == xla, reason)


def _time(
    build: Callable[[str], keras.Model],
    names: Sequence[str],
    batch: tuple[Any, Any],
    seconds: float,
    clock: Clock,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the shortest step of each name's model, and why those that have none failed.

    Raises:
        Exception: the first build's own error: without it there is nothing to fall back to.
    """
    models: dict[str, keras.Model] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            model = build(name)
            model.train_on_batch(*batch)
        except Exception as error:
            # Whatever compiler or device say of a way that is only tried, the first way still stands.
            if not models:
                raise
            failed[name] = _first_line(error)
            continue
        models[name] = model
    best = dict.fromkeys(models, float("inf"))
    spent = 0.0
    rounds = 0
    # The minimum of interleaved steps: other work on the machine slows both, and never speeds one up.
    while len(models) > 1 and (rounds < 2 or spent < seconds):
        for name, model in models.items():
            started = clock()
            model.train_on_batch(*batch)
            taken = clock() - started
            best[name] = min(best[name], taken)
            spent += taken
        rounds += 1
    models.clear()
    gc.collect()
    return best, failed


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _decide(best: dict[str, float], failed: dict[str, str], images: int) -> tuple[str, str]:
    plain, *_ = best
    broken = "".join(f"; {name} fails ({why})" for name, why in failed.items())
    if len(best) == 1:
        return plain, broken.removeprefix("; ")
    speeds = "images/s of a training step: " + ", ".join(
        f"{name} {images / taken:.1f}" for name, taken in best.items()
    )
    fastest = min(best, key=best.__getitem__)
    if best[plain] / best[fastest] < LEAST_GAIN:
        return plain, f"{speeds}; no other is {LEAST_GAIN:g} times as fast{broken}"
    return fastest, speeds + broken
