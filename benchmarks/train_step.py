"""Milliseconds of one training step: what kseg's batch normalisation and a reduced precision bring here.

Two comparisons on ResUNet, each interleaved: `kseg.layers.BatchNormalization` against Keras' own, and
`float32` against `mixed_bfloat16`. Every round times one step of each row, in turns, because a shared machine
changes speed from minute to minute; the minimum is what the machine can do, the median what it did.

    python benchmarks/train_step.py --json > benchmarks/results/train_step.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import kseg
from kseg.models.parts import blocks
from kseg.training import precision, record

Batch = tuple[np.ndarray, np.ndarray]
CLASSES = 11
WARM_UP_STEPS = 3


def _model(policy: str, normalization: type[keras.layers.Layer]) -> keras.Model:
    """Return a compiled ResUNet whose normalisation layers are of the given class."""
    keras.utils.set_random_seed(0)
    with precision.dtype_policy(policy), mock.patch.object(blocks, "BatchNormalization", normalization):
        model = kseg.models.create("resunet", num_classes=CLASSES)
    model.compile("adamw", kseg.losses.PixelCrossEntropy(), jit_compile=precision.jit_compile())
    if not any(type(layer) is normalization for layer in model.layers):
        raise AssertionError(f"the network has no {normalization.__module__} layer: nothing is compared")
    return model


def rows() -> dict[str, Callable[[], keras.Model]]:
    """Return what is compared: row -> builder of its compiled model."""
    return {
        f"{policy}, {layer.__module__.split('.')[0]}.layers.BatchNormalization": (
            lambda policy=policy, layer=layer: _model(policy, layer)
        )
        for policy in ("float32", "mixed_bfloat16")
        for layer in (kseg.layers.BatchNormalization, keras.layers.BatchNormalization)
    }


def _step(model: keras.Model, batch: Batch) -> float:
    started = time.perf_counter()
    model.train_on_batch(*batch)
    return time.perf_counter() - started


def measure(batch: Batch, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each row's steps; every other round goes backwards."""
    models = {name: build() for name, build in rows().items()}
    for model in models.values():
        for _ in range(WARM_UP_STEPS):
            model.train_on_batch(*batch)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds):
        order = list(models)
        for name in reversed(order) if turn % 2 else order:
            seconds[name].append(_step(models[name], batch))
    return seconds


def summary(seconds: dict[str, list[float]], images: int) -> list[dict[str, Any]]:
    """Return one row per comparison, times in milliseconds, speed relative to the first row's minimum."""
    first = min(next(iter(seconds.values())))
    return [
        {
            "row": name,
            "min_ms": round(1000 * min(taken), 1),
            "median_ms": round(1000 * statistics.median(taken), 1),
            "images_per_s": round(images / min(taken), 2),
            "times_the_first_rows_speed": round(first / min(taken), 3),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="240x320", help="HxW of the images")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each row")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.lower().split("x"))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch_size, height, width, 3)).astype(np.float32)
    masks = rng.integers(0, CLASSES, (args.batch_size, height, width)).astype(np.int32)
    found = summary(measure((images, masks), args.rounds), args.batch_size)
    result = {
        "model": "ResUNet",
        "size": [height, width],
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "rows": found,
        "machine": record.machine(),
        "versions": record.versions(),
        "date": record.now(),
    }
    if args.json:
        print(json.dumps(result, indent=1))
        return
    table = Table("row", "min ms", "median ms", "images/s", "speed", title=f"ResUNet, {args.size}")
    for row in found:
        shown = (row[key] for key in ("min_ms", "median_ms", "images_per_s", "times_the_first_rows_speed"))
        table.add_row(row["row"], *(f"{value:g}" for value in shown))
    Console().print(table)


if __name__ == "__main__":
    main()
