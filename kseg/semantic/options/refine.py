"""The argument `--refine` that `evaluate` and `predict` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kseg.errors import UsageError

if TYPE_CHECKING:
    from kseg.semantic.refine import Refiner


def _refiner(text: str) -> tuple[str, dict[str, Any]]:
    from kseg.semantic.refine import parse

    try:
        return parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def tree_arguments(text: str) -> dict[str, Any]:
    """Parse `key=value,...` as arguments of tree-cover's tree, without a classifier."""
    arguments = _refiner(f"tree-cover:{text}")[1]
    if "classifier" in arguments:
        raise argparse.ArgumentTypeError("classifier is what this command makes; leave it out")
    return arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option with the table of refiners; `refiners` reads it."""
    from kseg.semantic.refine import registry

    group = parser.add_argument_group(
        "refining the scores by looking at the image",
        "Refiners hold all scores of an image, about 20 bytes per pixel and class, and\n"
        "superpixels take up to 360 bytes per pixel.\n" + registry.help_text(),
    )
    option = group.add_argument(
        "--refine",
        action="append",
        default=[],
        type=_refiner,
        metavar="NAME[:key=value,...]",
        help="refine with one of the above, e.g. superpixels:method=slic,n_segments=800; may be given "
        "several times, applied in order",
    )
    option.completer = lambda **asked: list(registry.names())  # type: ignore[attr-defined]


def refiners(args: argparse.Namespace) -> list[Refiner]:
    """Make the refiners that `--refine` asks for, in order; before a model is opened, to fail early."""
    from kseg.semantic.refine import create

    return [create(name, **arguments) for name, arguments in args.refine]


def refined(predictor: Any, made: list[Refiner]) -> Any:
    """Return `predictor` with the refiners around it, or itself when there are none."""
    if not made:
        return predictor
    from kseg.semantic.refine import Refined

    return Refined(predictor, made)


def describe(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the refiners as JSON values, with the arguments that were given."""
    return [{"name": name, **arguments} for name, arguments in args.refine]
