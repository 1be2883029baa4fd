"""The argument `--stitch` that `evaluate` and `predict` share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from kseg.cli import values

if TYPE_CHECKING:
    from kseg.inference import Runtime


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the option; `runtime` reads it."""
    group.add_argument(
        "--stitch",
        type=values.positive,
        default=1,
        metavar="K",
        help="shift-and-stitch: run a .keras network on K x K shifted images and interlace the scores, for a "
        "K times finer output stride, which K must divide (1: off)",
    )


def runtime(args: argparse.Namespace, source: str | os.PathLike[str] | Runtime) -> Any:
    """Return `source`, a file or a runtime, with shift-and-stitch around it when `--stitch` asks for that."""
    if args.stitch == 1:
        return source
    from kseg.inference import load_runtime
    from kseg.inference.shift_and_stitch import ShiftAndStitchRuntime

    opened = load_runtime(source) if isinstance(source, str | os.PathLike) else source
    return ShiftAndStitchRuntime(opened, args.stitch)
