"""Training images per second, and which share of the device's peak that is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

# Dense TFLOP/s as commonly listed: float32 outside of tensor cores, float16 or bfloat16 on them. A GPU that
# is not listed is measured against its own matrix product alone, which is the better measure anyway.
PEAKS = {
    "T4": (8.1, 65.0),
    "V100": (15.7, 125.0),
    "A100": (19.5, 312.0),
    "H100": (67.0, 989.0),
    "H200": (67.0, 989.0),
    "RTX 4090": (82.6, 165.0),
}
# A training step is a forward pass and a backward pass of twice its operations.
STEP = 3
WARM_UP = 3


def peak(name: str, policy: str) -> float | None:
    """Return the listed TFLOP/s of the GPU called `name`, or None."""
    found = next((value for key, value in PEAKS.items() if key in name), None)
    return None if found is None else found[policy != "float32"]


def matrix_rate(policy: str, side: int, repeats: int) -> float:
    """Return the TFLOP/s of a matrix product in the policy's compute type: the best the device gives."""
    import keras

    dtype = keras.dtype_policies.get(policy).compute_dtype
    rng = np.random.default_rng(0)
    a, b = (keras.ops.cast(rng.standard_normal((side, side)).astype(np.float32), dtype) for _ in range(2))
    keras.ops.convert_to_numpy(keras.ops.matmul(a, b)[:1, :1])
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        product = a
        for _ in range(repeats):
            # Each needs the one before; the scale keeps float16 finite.
            product = keras.ops.matmul(product, b) * (1.0 / side)
        keras.ops.convert_to_numpy(product[:1, :1])
        best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 * repeats / best / 1e12


def measure(
    title: str, policy: str, jit: bool, *, side: int, batch_size: int, seconds: float, thin: bool
) -> dict[str, Any]:
    """Train for about `seconds` with AdamW and return the speed of the median step.

    The images are noise and always the same: what is measured is the device, not reading and augmenting.
    """
    import kseg
    from benchmarks.gpu.networks import build
    from kseg.models import flops

    model = build(title, policy, thin)
    model.compile("adamw", kseg.losses.PixelCrossEntropy(), jit_compile=jit)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, side, side, 3)).astype(np.float32)
    masks = rng.integers(0, 2, (batch_size, side, side)).astype(np.int32)
    started = time.perf_counter()
    for _ in range(WARM_UP):
        model.train_on_batch(images, masks)
    compiling = time.perf_counter() - started
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        started = time.perf_counter()
        loss = model.train_on_batch(images, masks)
        taken.append(time.perf_counter() - started)
    step = float(np.median(taken))
    return {
        "network": title,
        "policy": policy,
        "xla": jit,
        "side": side,
        "batch_size": batch_size,
        "steps": len(taken),
        "first_steps_s": round(compiling, 2),
        "images_per_s": round(batch_size / step, 2),
        "tflops": STEP * flops(model, (side, side)) * batch_size / step / 1e12,
        "finite": bool(np.isfinite(np.asarray(loss, np.float64)).all()),
    }
