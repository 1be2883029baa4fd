"""`kseg evaluate`: score a model or an artefact on a labelled split, at original size."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from kseg.cli import predictor_options, values
from kseg.errors import GateError
from kseg.text import printable

HELP = "score a model or an artefact on labelled images, at their original size"
EXAMPLE = "kseg evaluate runs/fcn8s/model.keras --data DIR --split test --json"

_SUMMARY = {
    "miou": "mean IoU",
    "miou_present": "mean IoU, classes in the truth",
    "pixel_acc": "pixel accuracy",
    "mean_acc": "mean class accuracy",
    "fwiou": "frequency-weighted IoU",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL_OR_ARTEFACT", help=".keras, .tflite, .onnx or .engine that kseg wrote"
    )
    parser.add_argument("--data", required=True, metavar="SRC", help="folder, tfds:NAME or sample:nuclei")
    parser.add_argument("--split", help="which split to score (val; where the data has one only, that)")
    parser.add_argument(
        "--limit",
        type=values.positive,
        metavar="N",
        help="score N images, evenly spread over the split",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", metavar="FILE.json", help="also write the JSON to a file")
    parser.add_argument(
        "--min-miou",
        type=values.points,
        metavar="POINTS",
        help="a gate: exit code 1 when mean IoU (0-100) is below",
    )
    predictor_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg import data, files
    from kseg.cli.output import closing_line, print_json, progress
    from kseg.inference import evaluate

    source = data.open(args.data)
    split = args.split or (next(iter(source.splits)) if len(source.splits) == 1 else "val")
    samples = source.samples(split, limit=args.limit)
    predictor = predictor_options.build(args)
    start = time.perf_counter()
    confusion = evaluate(predictor, samples, progress=progress, text=f"scoring {split}")
    seconds = time.perf_counter() - start
    scores = confusion.scores()
    truth = confusion.matrix.sum(axis=1)
    result: dict[str, Any] = {
        "model": args.model,
        "runtime": predictor.runtime.name,
        "data": args.data,
        "split": split,
        "images": len(samples),
        "pixels": confusion.total,
        **{key: scores[key] for key in _SUMMARY},
        "classes": [
            {
                "id": index,
                "name": name,
                "iou": scores["iou"][index],
                "acc": scores["acc"][index],
                "pixels": int(pixels),
            }
            for index, (name, pixels) in enumerate(zip(predictor.spec.classes, truth, strict=True))
        ],
        "options": predictor_options.describe(args, predictor),
        "seconds": round(seconds, 3),
    }
    predictor.close()
    if args.out:
        files.write_json(args.out, result)
    if args.json:
        print_json(result)
    else:
        _print(result)
    if args.min_miou is not None and not 100 * result["miou"] >= args.min_miou:
        raise GateError(f"mean IoU is {100 * result['miou']:.2f}; --min-miou asks for {args.min_miou:g}")
    if not args.json:
        closing_line(f"kseg predict {args.model} IMAGE_OR_DIR --out predictions")
    return 0


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.cli.output import console

    title = f"{result['data']} {result['split']}: {result['images']} images at original size, void left out"
    console.print(title, markup=False, highlight=False)
    table = Table()
    table.add_column("class")
    for head in ("IoU, %", "accuracy, %", "share, %"):
        table.add_column(head, justify="right")
    for row in result["classes"]:
        share = row["pixels"] / max(result["pixels"], 1)
        name = Text(printable(row["name"]))
        table.add_row(name, _percent(row["iou"]), _percent(row["acc"]), _percent(share))
    console.print(table)
    summary = Table(show_header=False)
    summary.add_column()
    summary.add_column(justify="right")
    for key, text in _SUMMARY.items():
        summary.add_row(f"{text} ({key}), %", _percent(result[key]))
    console.print(summary)
    rate = result["images"] / max(result["seconds"], 1e-9)
    words = [f"{result['seconds']:.1f} s", f"{rate:.1f} images/s", f"runtime {result['runtime']}"]
    console.print(
        ", ".join([*words, *_around(result["options"])]), style="dim", markup=False, highlight=False
    )


def _around(options: Mapping[str, Any]) -> list[str]:
    """Say what stood around the network: proposals, other networks, refiners."""
    said = []
    if options["proposals"]:
        said.append(f"proposals by {options['proposals']['method']}")
    if options["ensemble"]:
        said.append(f"{options['ensemble']['form']} with {', '.join(options['ensemble']['with'])}")
    if options["refine"]:
        said.append(f"refined by {', then '.join(refiner['name'] for refiner in options['refine'])}")
    return said


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
