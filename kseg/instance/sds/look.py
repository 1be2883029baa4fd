"""How a network of regions looks at an image, by words."""

from __future__ import annotations

import argparse
from typing import Any

from kseg import parsers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `build` reads them."""
    from kseg.instance.sds.suppression import SUPPRESSIONS

    group = parser.add_argument_group("how a model of proposed regions (SDS) looks at an image")
    group.add_argument("--unrefined", action="store_true", help="leave regions as they were proposed")
    group.add_argument(
        "--regions",
        type=parsers.positive,
        metavar="N",
        help="look at the N most promising regions (default: as many as in training)",
    )
    group.add_argument(
        "--suppress",
        choices=SUPPRESSIONS,
        help="of two detections of a class that share a superpixel (regions), or whose boxes overlap by more "
        "than 0.3 (boxes), the surer stays (default: regions, where proposals have masks)",
    )


def prepare(args: argparse.Namespace) -> None:
    """Nothing has to be made before a model is opened."""


def build(args: argparse.Namespace, runtime: Any, options: dict[str, Any], prepared: None) -> Any:
    """Return the predictor. Where there is a truth, proposals are kept on disk: it will be asked again."""
    from kseg.instance.sds.predictor import RegionPredictor

    return RegionPredictor(
        runtime,
        **options,
        count=args.regions,
        refine=not args.unrefined,
        suppress=args.suppress,
        stored=hasattr(args, "data"),
    )


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options as JSON values."""
    return {"unrefined": args.unrefined, "regions": args.regions, "suppress": args.suppress}


def around(options: dict[str, Any]) -> list[str]:
    """Say what was left out."""
    return ["regions as proposed"] if options["unrefined"] else []
