"""`kseg evaluate`: score a model or an artefact on a labelled split, at original size."""

from __future__ import annotations

import argparse
import time
from typing import Any

from kseg import parsers, tasks
from kseg.cli import look_options
from kseg.errors import GateError

HELP = "score a model or an artefact on labelled images, at their original size"
EXAMPLE = "kseg evaluate runs/fcn8s/model.keras --data DIR --split test --json"
# The one gate by its first name, and by that of every task's score.
GATE = ("--min-miou", "--min-score")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL_OR_ARTEFACT", help=".keras, .tflite, .onnx or .engine that kseg wrote"
    )
    parser.add_argument("--data", required=True, metavar="SRC", help="folder, tfds:NAME or sample:nuclei")
    parser.add_argument("--split", help="which split to score (val; where the data has one only, that)")
    parser.add_argument(
        "--limit",
        type=parsers.positive,
        metavar="N",
        help="score N images, evenly spread over the split",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", metavar="FILE.json", help="also write the JSON to a file")
    parser.add_argument(
        *GATE,
        dest="min_score",
        type=parsers.points,
        metavar="POINTS",
        help="a gate: exit code 1 when mean IoU (the task's score, 0-100) is below",
    )
    look_options.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg import data, files
    from kseg.inference import evaluate
    from kseg.output import closing_line, print_json, progress

    source = data.open(args.data)
    split = args.split or (next(iter(source.splits)) if len(source.splits) == 1 else "val")
    samples = source.samples(split, limit=args.limit)
    predictor = look_options.build(args)
    start = time.perf_counter()
    task = tasks.find(predictor.spec.task)
    scorer = evaluate(predictor, samples, progress=progress, text=f"scoring {split}")
    seconds = time.perf_counter() - start
    said: tasks.Result = task.part("tables")(scorer, predictor.spec)
    result: dict[str, Any] = {
        "model": args.model,
        "runtime": predictor.runtime.name,
        "data": args.data,
        "split": split,
        "images": len(samples),
        **said.record,
        "options": look_options.describe(args, predictor),
        "seconds": round(seconds, 3),
    }
    predictor.close()
    if args.out:
        files.write_json(args.out, result)
    if args.json:
        print_json(result)
    else:
        _print(result, said, look_options.around(predictor, result["options"]))
    score = 100 * result[task.headline]
    if args.min_score is not None and not score >= args.min_score:
        own = f"--min-{task.headline}"
        option = own if own in GATE else GATE[-1]
        raise GateError(f"{task.title} is {score:.2f}; {option} asks for {args.min_score:g}")
    if not args.json:
        closing_line(f"kseg predict {args.model} IMAGE_OR_DIR --out predictions")
    return 0


def _print(result: dict[str, Any], said: tasks.Result, around: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from kseg.output import console

    title = f"{result['data']} {result['split']}: {result['images']} images {said.how}"
    console.print(title, markup=False, highlight=False)
    for table in said.tables:
        shown = Table(show_header=bool(table.columns))
        for index, head in enumerate(table.columns or table.rows[0]):
            shown.add_column(head if table.columns else "", justify="right" if index else "left")
        for row in table.rows:
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)
    rate = result["images"] / max(result["seconds"], 1e-9)
    words = [f"{result['seconds']:.1f} s", f"{rate:.1f} images/s", f"runtime {result['runtime']}"]
    console.print(", ".join([*words, *around]), style="dim", markup=False, highlight=False)
