"""Images per second of the input pipeline, so that it is never the bottleneck of training.

Rows: `Batches` as a plain loop; `Batches` as `model.fit` takes them in on the Keras backend in use (a model
of one weight, so that nothing else costs); `Batches.as_tf_data`; each augmented and normalised, decoded
images in memory; the same without memory; and TFDS decoding the same data set alone, for comparison.

    python benchmarks/input_pipeline.py --data ../shared/data/camvid --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow_datasets as tfds
from rich.console import Console
from rich.table import Table

import kseg
from kseg import data
from kseg.data.batches.batches import Batches


def _loop(batches: Batches) -> int:
    images = 0
    for pixels, _ in batches:
        images += len(pixels)
    batches.on_epoch_end()
    return images


class _Counter(keras.callbacks.Callback):
    """Marks the time of every epoch's first and last step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


class OneWeight(keras.Model):
    """Reads a pixel of each image and one of each mask: the step costs nothing, the input does."""

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x: Any) -> Any:
        return x[:, 0, 0, :1] * self.scale

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        return keras.ops.mean(y_pred) + 0.0 * keras.ops.mean(keras.ops.cast(y[:, 0, 0], "float32"))


def _fit(batches: Batches, epochs: int) -> float:
    counter, model = _Counter(), OneWeight()
    model.compile(optimizer="sgd", jit_compile=False)
    model.fit(batches, epochs=epochs + 1, shuffle=False, verbose=0, callbacks=[counter])
    return epochs * len(batches) * batches.batch_size / sum(counter.seconds[1:])


def _rate(work: Callable[[], int], repeats: int) -> float:
    work()  # fills caches and starts threads
    start, images = time.perf_counter(), 0
    for _ in range(repeats):
        images += work()
    return images / (time.perf_counter() - start)


def measure(source: str, split: str, size: tuple[int, int], batch_size: int, epochs: int) -> dict[str, float]:
    """Return name of the row -> images per second."""
    opened = data.open(source)

    def batches(cache: str, augment: bool = True) -> Batches:
        options = {"size": size, "batch_size": batch_size, "augment": augment, "shuffle": True}
        return data.load(opened, split, cache=cache, **options)

    def decode() -> int:
        return sum(1 for _ in opened.builder().as_dataset(split=split))

    held = batches("memory")
    tf_data = held.as_tf_data()
    once = batches("none")
    return {
        "Batches, loop": _rate(lambda: _loop(held), epochs),
        f"Batches, model.fit on {keras.backend.backend()}": _fit(held, epochs),
        "Batches.as_tf_data": _rate(lambda: sum(len(pixels) for pixels, _ in tf_data), epochs),
        "Batches, loop, decoded each time": _rate(lambda: _loop(once), epochs),
        "TFDS decoding alone": _rate(decode, epochs),
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="sample:nuclei", help="a data folder, tfds:NAME or sample:NAME")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", default="360x480", help="HxW of the crops")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3, help="passes that are timed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.lower().split("x"))
    rates = measure(args.data, args.split, (height, width), args.batch_size, args.epochs)
    result = {
        "data": args.data,
        "size": [height, width],
        "batch_size": args.batch_size,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {
            "kseg": kseg.__version__,
            "keras": keras.__version__,
            "tfds": tfds.__version__,
            "numpy": np.__version__,
        },
        "date": time.strftime("%Y-%m-%d"),
    }
    if args.json:
        print(json.dumps(result, indent=1))
        return
    table = Table("row", "images/s", title=f"{args.data}, {height}x{width}, batch {args.batch_size}")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
