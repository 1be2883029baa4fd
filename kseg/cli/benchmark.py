"""`kseg benchmark`: size, load time, latency, memory and score of model files, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kseg import parsers

HELP = "measure model files side by side: size, load time, latency, memory, score"
EXAMPLE = "kseg benchmark runs/fcn8s/model.keras model_int8.tflite model.onnx --data DIR --plot benchmark.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help=".keras files and artefacts; ratios are to the first"
    )
    parser.add_argument("--data", metavar="SRC", help="images with truth; without it: noise, and no score")
    parser.add_argument("--split", help="default: val, else test, else train")
    parser.add_argument("--limit", type=int, default=32, metavar="N", help="score on at most N images (32)")
    parser.add_argument("--repeats", type=int, default=50, metavar="N", help="timed calls per file (50)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: each runtime's choice)"
    )
    parser.add_argument(
        "--seed", type=parsers.seed, default=0, metavar="N", help="of the noise without --data (0)"
    )
    parser.add_argument("--out", metavar="FILE.json", help="also write the JSON to a file")
    parser.add_argument("--plot", metavar="FILE.png", help="also draw it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    import deploy
    from kseg.output import closing_line, print_json, progress

    result = deploy.benchmark(
        args.files,
        data=args.data,
        split=args.split,
        limit=args.limit,
        repeats=args.repeats,
        threads=args.threads,
        seed=args.seed,
        json=args.out,
        plot=args.plot,
        progress=progress,
    )
    if args.json:
        print_json(result)
        return 0
    _print(result)
    ran = [row["path"] for row in result["rows"] if "p50_ms" in row] or args.files
    closing_line(f"kseg predict {ran[-1]} IMAGE_OR_DIR --out predictions")
    return 0


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table

    from kseg.output import console

    setup = result["setup"]
    # Narrow on purpose: eight figures and a file name must fit a terminal of 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("file", overflow="fold", min_width=20)
    for head in ("MB", "load s", "p50 ms", "p95 ms", "img/s", "x first", "RAM MB", f"{setup['label']} %"):
        table.add_column(head, justify="right", no_wrap=True)
    left_out: list[str] = []
    for row in result["rows"]:
        name = Path(row["path"]).name
        if "p50_ms" not in row:
            table.add_row(name, f"{row['bytes'] / 1e6:.2f}")
            left_out.append(f"{name}: {row['status']}")
            continue
        score = row.get(setup["metric"])
        table.add_row(
            name,
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['load_s']:.2f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p95_ms']:.2f}",
            f"{row['images_per_s']:.1f}",
            f"{row['speedup']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            "-" if score is None else f"{100 * score:.2f}",
        )
    console.print(table)
    judged = f"{setup['source']} {setup['split']}, {setup['images']} images" if setup["images"] else "noise"
    console.print(
        f"{setup['processor']}, {setup['cores']} cores, batch 1, {setup['repeats']} calls in turns, {judged}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )
    for line in left_out:
        console.print(line, style="dim", markup=False, soft_wrap=True)
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
