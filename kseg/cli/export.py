"""`kseg export`: convert a trained model for a device, and verify what was converted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deploy import formats
from kseg import parsers, tasks
from kseg.cli.verify import add_budget
from kseg.spec import RESIZE_RULES

HELP = "convert a model for a device (" + ", ".join(formats.FORMATS) + ") and verify the result"
EXAMPLE = "kseg export runs/fcn8s/model.keras --to tflite --precision int8 --data DIR --out model_int8.tflite"

_OPEN_BATCH = ", ".join(row.name for row in formats.FORMATS.values() if "batch" in row.dynamic)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments; formats and precisions come from the one table."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file that kseg wrote")
    parser.add_argument(
        "--to", metavar="FORMAT", help=f"{', '.join(formats.FORMATS)} (default: from --out's suffix)"
    )
    parser.add_argument(
        "--precision", default="float32", help=f"float32 (default); {formats.precisions_help()}"
    )
    parser.add_argument(
        "--data", metavar="SRC", help="real images: int8 learns its ranges from train, val judges the result"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="default: beside MODEL, named after it and the precision"
    )
    parser.add_argument("--size", type=parsers.size, metavar="HxW", help="input size (default: the model's)")
    parser.add_argument(
        "--resize", choices=RESIZE_RULES, help="how images meet that size (default: the model's rule)"
    )
    parser.add_argument("--dynamic", metavar="AXIS", help=f"'batch': leave the batch open ({_OPEN_BATCH})")
    add_budget(parser)
    parser.add_argument("--calibration-images", type=int, default=64, metavar="N", help="for int8 (64)")
    parser.add_argument(
        "--keep-float",
        metavar="REGEX",
        help="for int8: layers whose name it is found in stay in float (default: the architecture's own)",
    )
    parser.add_argument("--verify-images", type=int, default=32, metavar="N", help="at least 8 (32)")
    parser.add_argument(
        "--seed", type=parsers.seed, default=0, metavar="N", help="chooses the calibration images (0)"
    )
    parser.add_argument("--no-verify", action="store_true", help="skip the check; the file says UNVERIFIED")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def _target(args: argparse.Namespace) -> Path:
    if args.out:
        return Path(args.out)
    row = formats.by_name(args.to or next(iter(formats.FORMATS)))
    row.check_precision(args.precision)
    source = Path(args.model)
    return source.with_name(f"{source.stem}_{args.precision}{row.suffix}")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code: 1 when the result lost more mIoU than its budget."""
    import deploy
    from kseg.cli.verify import print_outcome
    from kseg.output import closing_line, error_line, print_json, progress

    target = _target(args)
    failure: deploy.VerificationFailed | None = None
    try:
        outcome = deploy.export(
            args.model,
            target,
            precision=args.precision,
            size=args.size,
            resize=args.resize,
            calibration=args.data,
            verify=False if args.no_verify else args.data,
            max_miou_drop=args.max_miou_drop,
            max_class_drop=args.max_class_drop,
            allow_near_chance=args.allow_near_chance,
            calibration_images=args.calibration_images,
            keep_float=args.keep_float,
            verify_images=args.verify_images,
            seed=args.seed,
            format=args.to,
            dynamic=args.dynamic,
            progress=progress,
        )
    except deploy.VerificationFailed as error:
        failure, outcome = error, error.outcome
    if args.json:
        print_json(outcome)
    else:
        _print(outcome)
        print_outcome(outcome["verify"], tasks.find(deploy.read_spec(target).task))
    if failure is not None:
        error_line(str(failure))
        return failure.exit_code
    closing_line(f"kseg benchmark {args.model} {target}" + (f" --data {args.data}" if args.data else ""))
    return 0


def _print(outcome: dict[str, Any]) -> None:
    from kseg.output import console

    height, width = outcome["size"]
    text = f"{outcome['path']}: {outcome['format']} {outcome['precision']}, {height}x{width}, "
    console.print(text + f"{outcome['bytes'] / 1e6:.2f} MB", markup=False, soft_wrap=True)
    engine = outcome.get("engine")
    if engine:
        if "instead" in engine:
            console.print(engine["instead"], style="yellow", markup=False, soft_wrap=True)
        text = f"built by {engine['library']} {engine['version']} for {engine['runs_on']}"
        console.print(text, style="dim", markup=False, soft_wrap=True)
        console.print(f"where it runs: {engine['needs']}", style="dim", markup=False, soft_wrap=True)
    calibration = outcome["calibration"]
    if calibration:
        console.print(
            f"calibrated on {calibration['images']} images of {calibration['source']} "
            f"{calibration['split']}, seed {calibration['seed']}",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
