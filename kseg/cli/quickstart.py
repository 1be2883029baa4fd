"""`kseg quickstart`: the whole road on the embedded nuclei, by the commands a user would type."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from kseg import tasks
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
    ("tensorrt-rtx", "float16", "model_float16.engine", ("tf2onnx", "onnxruntime", "tensorrt_rtx")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--out", default="runs/quickstart", metavar="RUN", help="run folder (runs/quickstart)"
    )
    known = [name for name in tasks.names() if tasks.find(name).quickstart]
    parser.add_argument("--task", choices=known, default=known[0], help=f"what is trained ({known[0]})")
    parser.add_argument("--epochs", type=int, metavar="N", help="training epochs (the task's choice)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the training (0)")


def run(args: argparse.Namespace) -> int:
    """Run every step; stop at the first that fails and return its exit code."""
    from kseg.cli.main import main
    from kseg.output import console

    folder = _claim(Path(args.out))
    start = time.perf_counter()
    training = tasks.find(args.task).quickstart + (
        f" --epochs {args.epochs}" if args.epochs is not None else ""
    )
    for words in _steps(folder, training, args.seed):
        console.rule(style="dim")
        console.print(f"$ {shlex.join(words)}", style="bold", markup=False, soft_wrap=True, highlight=False)
        code = main(words[1:])
        if code:
            return code
    console.rule(style="dim")
    console.print(f"The whole road took {time.perf_counter() - start:.0f} s. Open {folder / 'report.html'}")
    console.print(_on_your_own(), markup=False, soft_wrap=True, highlight=False)
    return 0


def _claim(folder: Path) -> Path:
    """Make `folder`, or the first free of `folder-2`, `folder-3`, ...: nothing is overwritten or shared."""
    candidate, number = folder, 1
    while True:
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")
        else:
            return candidate


def _steps(folder: Path, training: str, seed: int) -> Iterator[list[str]]:
    """Yield the words of each command; the exports are left out whose libraries are not installed.

    Args:
        folder: of the run.
        training: the task's arguments of `kseg train`.
        seed: of the training.
    """
    from deploy.reporting import BENCHMARK
    from deploy.reporting import EXPORTS as PLACE
    from kseg.data.sources.embedded import SAMPLES

    run, model = shlex.quote(str(folder)), shlex.quote(str(folder / "model.keras"))
    place, images = shlex.quote(str(folder / PLACE)), shlex.quote(str(SAMPLES / "nuclei" / "images" / "val"))
    yield shlex.split(f"kseg check-data {SAMPLE}")
    yield shlex.split(f"kseg train {training} --data {SAMPLE} --seed {seed} --out {run}")
    yield shlex.split(f"kseg evaluate {model} --data {SAMPLE} --split val --out {run}/evaluation.json")
    yield shlex.split(f"kseg predict {model} {images} --out {run}/predictions")
    made = []
    for name, precision, file, modules in EXPORTS:
        if _is_missing(name, precision, modules):
            continue
        made.append(f"{place}/{file}")
        yield shlex.split(
            f"kseg export {model} --to {name} --precision {precision} --data {SAMPLE} --out {made[-1]}"
        )
    if not made:
        raise KsegError('nothing to verify: no export format is installed. Run: pip install "kseg[all]"')
    for file in made:
        yield shlex.split(f"kseg verify {file} --reference {model} --data {SAMPLE} --max-miou-drop 1.0")
    yield shlex.split(f"kseg benchmark {model} {' '.join(made)} --data {SAMPLE} --out {run}/{BENCHMARK}")
    yield shlex.split(f"kseg report {run}")


def _is_missing(name: str, precision: str, modules: tuple[str, ...]) -> bool:
    """Say which libraries an export lacks, if any."""
    from kseg.output import errors

    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        text = f"left out: {name} {precision}, no {', '.join(missing)} (pip install 'kseg[all]')"
        errors.print(text, markup=False)
    return bool(missing)


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
