"""`kseg rebuild`: the same weights in a network with other arguments."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kseg import parsers
from kseg.errors import UsageError

HELP = "write a trained model again with other architecture arguments over the same weights"
EXAMPLE = "kseg rebuild runs/rcnn/model.keras --model-args '{\"instances\": 2}' --out two_instances.keras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file that kseg wrote")
    parser.add_argument(
        "--model-args",
        type=parsers.mapping,
        required=True,
        metavar="JSON",
        help="arguments to change; they must not change the weights (see: kseg models NAME)",
    )
    parser.add_argument("--out", required=True, metavar="FILE.keras", help="the new model")
    parser.add_argument("--json", action="store_true", help="print the new model's arguments as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from kseg import files, models, saving
    from kseg.output import closing_line, console, print_json
    from kseg.training.settled import SETTLED

    for name in SETTLED:
        if name in args.model_args:
            raise UsageError(f"`{name}` cannot be changed: the model's data settled it")
    if files.resolved(Path(args.out).absolute()) == files.resolved(Path(args.model).absolute()):
        raise UsageError(f"--out '{args.out}' is the model itself, which stays as it is: give another file")
    rebuilt = models.rebuild(saving.load(args.model), **args.model_args)
    spec = saving.save(rebuilt, args.out)
    outcome: dict[str, Any] = {
        "model": args.model,
        "out": args.out,
        "architecture": spec.architecture,
        "arch_args": dict(spec.arch_args),
    }
    if args.json:
        print_json(outcome)
        return 0
    changed = json.dumps(args.model_args)
    console.print(
        f"{args.out}: {spec.architecture} with {changed}, the weights of {args.model}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    closing_line(f"kseg evaluate {args.out} --data DIR --split test")
    return 0
