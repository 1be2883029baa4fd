"""`kseg find-lr`: a learning rate for a network and a data set, by the range test."""

from __future__ import annotations

import argparse
from pathlib import Path

from kseg import parsers
from kseg.cli import train
from kseg.errors import UsageError

HELP = "find a learning rate: a hundred steps at growing rates, before training"
EXAMPLE = "kseg find-lr --model fcn8s --encoder mobilenetv3 --data DIR --size 360x480"
OUT = "runs/find-lr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: those of `kseg train` that shape the network, its data and its loss."""
    test = parser.add_argument_group("range test")
    test.add_argument("--out", default=OUT, metavar="DIR", help=f"gets find_lr.json and find_lr.png ({OUT})")
    test.add_argument("--low", type=float, default=1e-6, metavar="R", help="the first rate (1e-6)")
    test.add_argument("--high", type=float, default=10.0, metavar="R", help="the last rate (10)")
    test.add_argument("--steps", type=parsers.positive, default=100, metavar="N", help="of the test (100)")
    test.add_argument("--json", action="store_true", help="print the result as JSON")
    train.add_job_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg import files
    from kseg.output import closing_line, console, print_json
    from kseg.progress import to_stderr
    from kseg.training.lr_finder import find_for
    from kseg.viz.curves import plot_rates

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"Argument --out must be a folder. '{out}' is a file")
    config = train.to_config(args)
    found = find_for(config, to_stderr, args.low, args.high, args.steps)
    files.write_json(out / "find_lr.json", found.to_dict())
    picture = plot_rates(found.rates, found.losses, found.suggestion, out / "find_lr.png")
    if args.json:
        print_json(found.to_dict())
        return 0
    console.print(
        f"suggested learning rate {found.suggestion:.2g} (the loss was lowest at {found.lowest:.2g}, after "
        f"{len(found.rates)} steps): {picture}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    closing_line(f"kseg train ... --learning-rate {found.suggestion:.2g}")
    return 0
