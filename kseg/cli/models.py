"""`kseg models`: every network with its parameters, stride and operations, or the arguments of one."""

from __future__ import annotations

import argparse
import inspect

from kseg import parsers
from kseg.output import closing_line, console, print_json, progress

HELP = "list the networks with parameters, stride, FLOPs, encoder and paper, or the arguments of one"
EXAMPLE = "kseg models --size 360x480"


WIDE = 110  # columns of a terminal from which the papers are listed too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="say what this network is and what --model-args it takes"
    )
    parser.add_argument(
        "--size",
        type=parsers.size,
        default=(360, 480),
        metavar="HxW",
        help="image size that FLOPs are counted at (default: 360x480)",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=21,
        metavar="N",
        help="number of classes the networks have (default: 21)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """List the networks, or describe one; return the exit code."""
    if args.name is not None:
        return _describe(args.name, args.json)
    size = args.size
    from kseg.models.registry import names
    from kseg.models.summary import row

    listed = names()
    rows = [row(name, size, args.classes) for name in progress(listed, len(listed), "counting networks")]
    if args.json:
        print_json({"size": list(size), "num_classes": args.classes, "models": rows})
        return 0
    from rich.table import Table

    # Narrow on purpose: the numbers must stay whole on 80 columns, where the paper has no room (see --json).
    table = Table(
        title=f"Networks, {args.classes} classes, FLOPs (2 x multiply-adds) at {size[0]}x{size[1]}",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "pads to", "scored at", "GFLOPs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("encoder", no_wrap=True)
    with_paper = console.width >= WIDE
    if with_paper:
        table.add_column("paper", no_wrap=True, overflow="ellipsis")
    for item in rows:
        table.add_row(
            item["name"],
            f"{item['parameters']:,}",
            str(item["stride"]),
            f"1/{item['output_stride']}",
            f"{item['flops'] / 1e9:.1f}",
            item["encoder"] or "own",
            *([item["paper"]] if with_paper else []),
        )
    console.print(table)
    closing_line(f"kseg train --model {rows[0]['name'].lower()} --data DIR --out RUN")
    return 0


def _describe(name: str, as_json: bool) -> int:
    """Print one network's documentation and the defaults of its arguments."""
    from kseg.models.registry import describe

    entry = describe(name)
    # What training takes from the data or has options of its own for.
    own = ("input_shape", "num_classes", "weights", "encoder", "name")
    defaults = {key: value for key, value in entry.parameters.items() if key not in own}
    if as_json:
        print_json({"name": entry.name, "paper": entry.paper, "model_args": defaults})
        return 0
    given = ", ".join(f"{key}={value!r}" for key, value in defaults.items())
    for text in (
        inspect.getdoc(entry.build) or entry.name,
        f"\nPaper: {entry.paper}",
        f"Defaults of --model-args: {given}",
    ):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    closing_line(f"kseg train --model {entry.name.lower()} --data DIR --out RUN")
    return 0
