"""Peak memory of `Predictor` on one large image: tiles, Gaussian blending, class map, TensorFlow included.

The network is one 1x1 convolution, so that what is measured is the Predictor's own memory and time; a real
network adds what one tile costs it.

    python benchmarks/large_image.py --side 10000 --json > benchmarks/results/large_image.json
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kseg
from deploy.worker import peak_bytes
from kseg.training import record


def measure(side: int, classes: int, tile: int) -> dict[str, float]:
    """Return seconds and gigabytes of predicting a `side` x `side` image in tiles."""
    image = keras.Input((None, None, 3), name="image")
    network = keras.Model(image, keras.layers.Conv2D(classes, 1)(image))
    network.spec = kseg.Spec(classes=[f"class {index}" for index in range(classes)], input_size=(tile, tile))
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    predictor = kseg.Predictor(network)
    predictor(pixels[: 2 * tile, : 2 * tile])
    before = peak_bytes()
    started = time.perf_counter()
    found = predictor(pixels)[0]
    seconds = time.perf_counter() - started
    if found.shape != (side, side):
        raise AssertionError(f"expected a class map of {side}x{side}, received {found.shape}")
    return {
        "seconds": round(seconds, 1),
        "peak_gb": round(peak_bytes() / 1e9, 2),
        "peak_gb_before": round(before / 1e9, 2),
    }


def main() -> None:
    """Print one line, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=10_000, help="height and width of the image")
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--tile", type=int, default=512, help="height and width of the network's input")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.side, args.classes, args.tile)
    if args.json:
        place = {"machine": record.machine(), "versions": record.versions(), "date": record.now()}
        given = {"side": args.side, "classes": args.classes, "tile": args.tile}
        print(json.dumps({**given, **found, **place}, indent=1))
        return
    print(
        f"{args.side}x{args.side}, {args.classes} classes, tiles of {args.tile}: {found['seconds']:.0f} s, "
        f"peak {found['peak_gb']:.2f} GB ({found['peak_gb_before']:.2f} GB before, image included)"
    )


if __name__ == "__main__":
    main()
