"""The argument `--stitch` that `evaluate` and `predict` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kseg import parsers

if TYPE_CHECKING:
    from kseg.inference import Runtime


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the option; `runtime` reads it."""
    group.add_argument(
        "--stitch",
        type=parsers.positive,
        default=1,
        metavar="K",
        help="shift-and-stitch: run a .keras network on K x K shifted images and interlace the scores, for a "
        "K times finer output stride, which K must divide (1: off)",
    )


def runtime(args: argparse.Namespace, opened: Runtime) -> Any:
    """Return a runtime with shift-and-stitch around it when `--stitch` asks for that, else itself."""
    if args.stitch == 1:
        return opened
    from kseg.semantic.inference.shift_and_stitch import ShiftAndStitchRuntime

    return ShiftAndStitchRuntime(opened, args.stitch)
