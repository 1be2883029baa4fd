"""What dense evaluation of a patch classifier saves against a sliding window, and what shift-and-stitch does.

For each network and one image: the multiply-adds of every evaluator, computed from the layers, and measured
seconds. Dense evaluation and shift-and-stitch run on the whole image (the shifted crops in small groups, so
that memory is bounded). The sliding window runs on a sample of patches, extrapolated to all pixels: with the
patches in batches, the best that it can do, and one patch a call, as its loop is written down. All of them
are compared with each other before a time is reported.

    python benchmarks/dense_vs_sliding.py --json > benchmarks/results/dense_vs_sliding.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from kseg.models import create, flops, forms
from kseg.training import record

# Each with the channels and classes of its own task: membranes, or colour images with VOC's classes.
NETWORKS: dict[str, dict[str, int]] = {
    "N4": {"channels": 1, "num_classes": 2},
    "PatchNet": {"channels": 3, "num_classes": 21},
}
EVALUATORS = {
    "sliding": "sliding, in batches",
    "one_by_one": "sliding, one patch a call",
    "dense": "dense",
    "stitch": "shift-and-stitch",
}
AIM = 1000
TOLERANCE = 1e-5
PATCHES_PER_CALL = 64
CROPS_PER_CALL = 16


class Evaluators:
    """One network on images of one size: dense, strided on shifted crops, and patch by patch.

    Args:
        name: registered name of the network.
        size: `(height, width)` of the image.
    """

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        arguments = dict(NETWORKS[name])
        shape = (*size, arguments.pop("channels"))
        keras.utils.set_random_seed(0)
        self.size = size
        self.dense = create(name, input_shape=shape, **arguments)
        form = forms.patch_form(self.dense)
        if form is None:
            raise AssertionError(f"{name} has no patch form: there is nothing to compare")
        self.form = form
        stitched = create(name, input_shape=shape, evaluator="stitch", **arguments)
        self.shift, self.border = stitched.get_layer("shift"), stitched.get_layer("border")
        crop = keras.Input(self.shift.output.shape[1:])
        self.strided = keras.Model(crop, self._chain(crop))

    def _chain(self, x: Any) -> Any:
        """The layers of the patch form, strided, on inputs of another size."""
        for layer in self.form.model.layers[1:]:
            x = layer(x)
        return x

    def multiply_adds(self) -> dict[str, int]:
        """Return the multiply-adds of each evaluator on the whole image."""
        height, width = self.size
        patch = flops(self.form.model, (self.form.size, self.form.size)) // 2
        crop = flops(self.strided, self.strided.input_shape[1:3]) // 2
        return {
            "sliding": patch * height * width,
            "dense": flops(self.dense, self.size) // 2,
            "stitch": crop * self.shift.shifts**2,
        }

    def ceiling(self) -> float:
        """Return how many times fewer multiply-adds dense evaluation can need, on however large an image.

        A pixel then costs each weight of a kernel one multiply-add; a patch costs each as many as the layer
        has places in it.
        """
        pixel = sum(math.prod(weight.shape) for weight in self.dense.weights if len(weight.shape) == 4)
        return flops(self.form.model, (self.form.size, self.form.size)) / 2 / pixel

    def run_dense(self, image: np.ndarray) -> np.ndarray:
        """Return the logits of all pixels, `(H, W, classes)`."""
        return self.dense.predict_on_batch(image)[0]

    def run_stitch(self, image: np.ndarray) -> np.ndarray:
        """Return the logits of all pixels: the strided network on every shifted crop, interlaced."""
        shifts = self.shift.shifts
        padded = keras.ops.convert_to_numpy(self.border(image))[0]
        height, width = self.strided.input_shape[1:3]
        offsets = [(y, x) for y in range(shifts) for x in range(shifts)]
        rows, columns, classes = self.strided.output_shape[1:]
        stitched = np.empty((rows * shifts, columns * shifts, classes), np.float32)
        for first in range(0, len(offsets), CROPS_PER_CALL):
            group = offsets[first : first + CROPS_PER_CALL]
            crops = np.stack([padded[y : y + height, x : x + width] for y, x in group])
            for (y, x), answers in zip(group, self.strided.predict_on_batch(crops), strict=True):
                stitched[y::shifts, x::shifts] = answers
        return stitched[: self.size[0], : self.size[1]]

    def run_patches(self, image: np.ndarray, pixels: np.ndarray, together: int) -> np.ndarray:
        """Return the logits of chosen pixels `(N, 2)` from patches, so many `together`: `(N, classes)`."""
        border = (self.form.centre, self.form.size - 1 - self.form.centre)
        padded = np.pad(image[0], (border, border, (0, 0)), mode="reflect")
        side, answers = self.form.size, []
        for first in range(0, len(pixels), together):
            group = pixels[first : first + together]
            patches = np.stack([padded[y : y + side, x : x + side] for y, x in group])
            answers.append(self.form.model.predict_on_batch(patches)[:, 0, 0])
        return np.concatenate(answers)


def _timed(runs: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what each run gives, and the least of the seconds it took.

    They take turns, because a shared machine changes speed from minute to minute.
    """
    results: dict[str, Any] = {}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            results[name] = run()
            taken[name].append(time.perf_counter() - started)
    return results, {name: min(seconds[1:]) for name, seconds in taken.items()}  # the first one compiles


def measure(name: str, size: tuple[int, int], patches: int, rounds: int) -> dict[str, Any]:
    """Return one network's multiply-adds and seconds, and what dense evaluation and stitching save."""
    evaluators = Evaluators(name, size)
    random = np.random.default_rng(0)
    image = random.standard_normal((1, *evaluators.dense.input_shape[1:])).astype("float32")
    pixels = np.stack([random.integers(0, side, patches) for side in size], axis=1)
    runs = {
        "sliding": lambda: evaluators.run_patches(image, pixels, PATCHES_PER_CALL),
        "one_by_one": lambda: evaluators.run_patches(image, pixels[: patches // 8], 1),
        "dense": lambda: evaluators.run_dense(image),
        "stitch": lambda: evaluators.run_stitch(image),
    }
    logits, seconds = _timed(runs, rounds)
    for row in ("sliding", "one_by_one"):
        seconds[row] *= size[0] * size[1] / len(logits[row])
    dense = logits["dense"]
    patchwise, single = logits["sliding"], logits["one_by_one"]
    difference = {
        "dense_and_patches": float(np.abs(dense[tuple(pixels.T)] - patchwise).max()),
        "patches_and_one_by_one": float(np.abs(patchwise[: len(single)] - single).max()),
        "dense_and_stitch": float(np.abs(dense - logits["stitch"]).max()),
    }
    if max(difference.values()) > TOLERANCE * max(1.0, float(np.abs(dense).max())):
        raise AssertionError(f"{name}: the evaluators disagree: {difference}")
    operations = evaluators.multiply_adds()
    saved = {
        row: {
            "fewer_multiply_adds": round(operations["sliding"] / operations[row], 1),
            "less_time": round(seconds["sliding"] / seconds[row], 1),
            "less_time_than_one_by_one": round(seconds["one_by_one"] / seconds[row], 1),
        }
        for row in ("dense", "stitch")
    }
    return {
        "network": name,
        "receptive_field": evaluators.form.size,
        "stride": evaluators.shift.shifts,
        **NETWORKS[name],
        "multiply_adds": operations,
        "seconds": {row: round(value, 3) for row, value in seconds.items()},
        "sampled_patches": patches,
        "greatest_difference": difference,
        "greatest_logit": round(float(np.abs(dense).max()), 2),
        "times_cheaper_than_sliding": saved,
        "most_that_multiply_adds_can_fall": round(evaluators.ceiling(), 1),
        "aim": AIM,
        "aim_met_by_dense": {key: value >= AIM for key, value in saved["dense"].items()},
    }


def show(rows: list[dict[str, Any]], size: tuple[int, int]) -> None:
    """Print the table, and plainly whether the aim is met."""
    headings = ("network", "evaluator", "multiply-adds", "fewer", "seconds", "less time", "than one by one")
    table = Table(*headings, title=f"{size[0]} x {size[1]}")
    for row in rows:
        for kind, seconds in row["seconds"].items():
            saved = row["times_cheaper_than_sliding"].get(kind, {})
            table.add_row(
                row["network"],
                EVALUATORS[kind],
                f"{row['multiply_adds'][kind if saved else 'sliding']:.4g}",
                f"{saved.get('fewer_multiply_adds', 1):g}x",
                f"{seconds:.3g}",
                f"{saved['less_time']:g}x" if saved else "",
                f"{saved['less_time_than_one_by_one']:g}x" if saved else "",
            )
    console = Console(width=110)
    console.print(table)
    for row in rows:
        met = [key.replace("_", " ") for key, value in row["aim_met_by_dense"].items() if value]
        missed = [key.replace("_", " ") for key, value in row["aim_met_by_dense"].items() if not value]
        console.print(
            f"{row['network']}, dense against sliding, aim {AIM}x: met by {' and '.join(met) or 'nothing'}, "
            f"not met by {' and '.join(missed) or 'nothing'}. However large the image, the most "
            f"by which multiply-adds can fall is {row['most_that_multiply_adds_can_fall']:g}x."
        )


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="240x320", help="HxW of the image")
    parser.add_argument(
        "--patches", type=int, default=512, help="patches that the sliding window is timed on"
    )
    parser.add_argument("--rounds", type=int, default=2, help="timed repetitions; the least time counts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    height, width = (int(side) for side in args.size.lower().split("x"))
    rows = [measure(name, (height, width), args.patches, args.rounds) for name in NETWORKS]
    if args.json:
        place = {"machine": record.machine(), "versions": record.versions(), "date": record.now()}
        print(json.dumps({"size": [height, width], "rows": rows, **place}, indent=1))
        return
    show(rows, (height, width))


if __name__ == "__main__":
    main()
