"""`kseg quickstart`: the whole road on the embedded nuclei, by the commands a user would type."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from kseg.errors import KsegError

HELP = "train, evaluate, predict, export, verify, benchmark, report on the embedded sample"
EXAMPLE = "kseg quickstart --out runs/quickstart"

SAMPLE = "sample:nuclei"
# format, precision, file name, the modules that it needs
EXPORTS = (
    ("tflite", "float32", "model.tflite", ("ai_edge_litert",)),
    ("tflite", "float16", "model_float16.tflite", ("ai_edge_litert",)),
    ("tflite", "int8", "model_int8.tflite", ("ai_edge_litert", "ai_edge_quantizer")),
    ("onnx", "float32", "model.onnx", ("tf2onnx", "onnxruntime")),
    ("tensorrt", "float16", "model_float16.engine", ("tf2onnx", "onnxruntime", "tensorrt_rtx")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--out", default="runs/quickstart", metavar="RUN", help="run folder (runs/quickstart)"
    )
    parser.add_argument("--epochs", type=int, default=40, metavar="N", help="training epochs (40)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the training (0)")


def run(args: argparse.Namespace) -> int:
    """Run every step; stop at the first that fails and return its exit code."""
    from kseg.cli.main import main
    from kseg.cli.output import console

    folder = _free(Path(args.out))
    start = time.perf_counter()
    for words in _steps(folder, args.epochs, args.seed):
        console.rule(style="dim")
        console.print(f"$ {shlex.join(words)}", style="bold", markup=False, soft_wrap=True, highlight=False)
        code = main(words[1:])
        if code:
            return code
    console.rule(style="dim")
    console.print(f"The whole road took {time.perf_counter() - start:.0f} s. Open {folder / 'report.html'}")
    console.print(_on_your_own(), markup=False, soft_wrap=True, highlight=False)
    return 0


def _free(folder: Path) -> Path:
    """Return `folder`, or the first free of `folder-2`, `folder-3`, ...: nothing is overwritten."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _steps(folder: Path, epochs: int, seed: int) -> Iterator[list[str]]:
    from kseg.cli.output import errors
    from kseg.cli.report import BENCHMARK
    from kseg.cli.report import EXPORTS as PLACE
    from kseg.data.sources import SAMPLES

    model = str(folder / "model.keras")
    yield ["kseg", "check-data", SAMPLE]
    yield [
        *[
            "kseg",
            "train",
            "--model",
            "unet",
            "--model-args",
            '{"width": 0.25, "depth": 4}',
            "--data",
            SAMPLE,
        ],
        *["--size", "256x256", "--crop", "128x128", "--epochs", str(epochs), "--batch-size", "8"],
        *["--learning-rate", "0.003", "--seed", str(seed), "--out", str(folder)],
    ]
    yield [
        "kseg",
        "evaluate",
        model,
        "--data",
        SAMPLE,
        "--split",
        "val",
        "--out",
        str(folder / "evaluation.json"),
    ]
    images = str(SAMPLES / "nuclei" / "images" / "val")
    yield ["kseg", "predict", model, images, "--out", str(folder / "predictions")]
    made = []
    for name, precision, file, modules in EXPORTS:
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            errors.print(f"left out: {name} {precision}, no {', '.join(missing)} (pip install 'kseg[all]')")
            continue
        made.append(str(folder / PLACE / file))
        yield [
            *["kseg", "export", model, "--to", name, "--precision", precision],
            *["--data", SAMPLE, "--out", made[-1]],
        ]
    if not made:
        raise KsegError('nothing to verify: no export format is installed. Run: pip install "kseg[all]"')
    for file in made:
        yield ["kseg", "verify", file, "--reference", model, "--data", SAMPLE, "--max-miou-drop", "1.0"]
    yield ["kseg", "benchmark", model, *made, "--data", SAMPLE, "--out", str(folder / BENCHMARK)]
    yield ["kseg", "report", str(folder)]


def _on_your_own() -> str:
    return "\n".join(
        [
            "On your own folder (images/{train,val}/ID.jpg, labels/{train,val}/ID.png, classes.json):",
            "  kseg check-data DIR",
            "  kseg train --model fcn8s --encoder mobilenetv3 --data DIR --out runs/mine",
            "  kseg evaluate runs/mine/model.keras --data DIR --split val",
            "  kseg export runs/mine/model.keras --to tflite --precision int8 --data DIR "
            "--out runs/mine/exports/model_int8.tflite",
            "  kseg benchmark runs/mine/model.keras runs/mine/exports/*.tflite --data DIR "
            "--out runs/mine/benchmark.json",
            "  kseg report runs/mine",
        ]
    )
