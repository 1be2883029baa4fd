"""Bounds between a device and the CPU, and what they are applied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Bounds:
    """How far a device's training may be from the CPU's in float32.

    Args:
        loss: largest relative difference of a step's loss.
        weights: difference of the trained weights, relative to how far training has moved them.
        same_class: share of pixels with the same class after training, at least.
    """

    loss: float
    weights: float
    same_class: float


# float32 sums in another order; 8 bits (bfloat16) or 11 bits (float16) of mantissa in the mixed policies. The
# bounds of bfloat16 were seen to hold on a CPU; those of float32 and float16 have met no second device yet.
BOUNDS = {
    "float32": Bounds(loss=1e-3, weights=0.02, same_class=0.995),
    "mixed_float16": Bounds(loss=0.02, weights=0.1, same_class=0.97),
    "mixed_bfloat16": Bounds(loss=0.05, weights=0.25, same_class=0.95),
}
# The same weights on both devices: no training to drift apart.
FORWARD_RMS, FORWARD_SAME_CLASS = 1e-4, 0.9995


def check(name: str, value: float, bound: float, at_least: bool = False) -> dict[str, Any]:
    """Return one row of the result: what was compared, with what outcome."""
    finite = bool(np.isfinite(value))
    good = finite and (value >= bound if at_least else value <= bound)
    return {
        "check": name,
        "value": float(value) if finite else None,
        "bound": bound,
        "kind": "at least" if at_least else "at most",
        "passed": bool(good),
    }


def norm(arrays: list[np.ndarray]) -> float:
    """Return the root of the sum of squares over all arrays."""
    return float(np.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays)))


def same_class(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of pixels with the same strongest class in two batches of logits (B, H, W, C)."""
    return float((one.argmax(-1) == other.argmax(-1)).mean())


def compare_training(
    where: str, policy: str, device: dict[str, Any], cpu: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the checks of one network trained on a device under `policy` against the CPU in float32.

    `device` and `cpu` hold `losses`, `before`, `after` and `logits` as `networks.Trained` does.
    """
    bounds = BOUNDS[policy]
    loss = np.max(np.abs(device["losses"] - cpu["losses"]) / np.abs(cpu["losses"]))
    moved = norm([after - before for after, before in zip(cpu["after"], cpu["before"], strict=True)])
    apart = norm([mine - theirs for mine, theirs in zip(device["after"], cpu["after"], strict=True)])
    return [
        check(f"{where}: loss of each step", loss, bounds.loss),
        check(f"{where}: weights, of the way trained", apart / moved, bounds.weights),
        check(
            f"{where}: same class",
            same_class(device["logits"], cpu["logits"]),
            bounds.same_class,
            at_least=True,
        ),
        check(f"{where}: the loss falls", device["losses"][-1] / device["losses"][0], 1.0),
    ]


def compare_forward(where: str, device: np.ndarray, cpu: np.ndarray) -> list[dict[str, Any]]:
    """Return the checks of logits (B, H, W, C) from the same weights."""
    rms = norm([device - cpu]) / norm([cpu])
    return [
        check(f"{where}: logits of the same weights", rms, FORWARD_RMS),
        check(f"{where}: same class of the same weights", same_class(device, cpu), FORWARD_SAME_CLASS, True),
    ]
