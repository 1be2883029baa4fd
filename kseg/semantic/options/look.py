"""How a semantic model looks at images, by words: prior, shifted images, proposals, ensembles, refiners."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kseg import parsers, records
from kseg.errors import UsageError
from kseg.semantic.options import ensemble, proposals, refine, stitch
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    from kseg.semantic.inference.predictor import Predictor
    from kseg.semantic.refine import Refiner

# They look at whole images, each at its own size and by its own rule.
_OF_ONE = ("size", "resize")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `build` reads them."""
    group = parser.add_argument_group("how a semantic model looks at an image")
    group.add_argument(
        "--prior",
        type=parsers.number(0, 2),
        default=0.0,
        metavar="A",
        help="subtract A * log(class weight of the training) from the logits: takes back a share of "
        "the prior that class weights changed; try 0.75 (default 0: off)",
    )
    stitch.add_arguments(group)
    proposals.add_arguments(group)
    ensemble.add_arguments(group)
    refine.add_arguments(parser)


def prepare(args: argparse.Namespace) -> list[Refiner]:
    """Check the options, and make the refiners that they name."""
    ensemble.check(args)
    return refine.refiners(args)


def build(args: argparse.Namespace, runtime: Any, options: dict[str, Any], refiners: list[Refiner]) -> Any:
    """Return the predictor: runtime, predictor, proposals, ensemble, then refiners.

    Args:
        args: the parsed options.
        runtime: of the model.
        options: arguments of `Predictor`.
        refiners: what `prepare` made.
    """
    from kseg.inference import load_runtime

    of_others = {name: value for name, value in options.items() if name not in _OF_ONE}
    predictor = _opened(args, args.model, stitch.runtime(args, runtime), options)
    predictor = proposals.wrap(args, predictor)
    predictor = ensemble.wrap(
        args, predictor, lambda path: _opened(args, path, load_runtime(path), of_others)
    )
    return refine.refined(predictor, refiners)


def _opened(args: argparse.Namespace, path: str, runtime: Any, options: dict[str, Any]) -> Predictor:
    """Return the predictor of one network, with the bias that `--prior` asks of its own training."""
    from kseg.semantic.inference.predictor import Predictor

    predictor = Predictor(runtime, **options)
    if args.prior:
        predictor.set_bias(prior_bias(predictor.spec, args.prior, path))
    return predictor


class _Resolved(records.Record, frozen=True):
    class_weights: list[Annotated[float, msgspec.Meta(gt=0)]] | None = None


class _Recipe(records.Record, frozen=True):
    """What `--prior` reads of a recipe."""

    resolved: _Resolved = _Resolved()


def prior_bias(spec: Spec, share: float, name: str) -> list[float]:
    """Return `-share * log(class weight)` per class, from the recipe that the Spec carries.

    Raises:
        UsageError: if the model was trained without class weights, does not say, or gives other classes.
    """
    where = f"'{printable(name)}', `recipe` of the spec"
    weights = records.convert(spec.recipe, _Recipe, where=where).resolved.class_weights
    if not weights:
        raise UsageError(
            f"--prior needs the class weights of the training, and the recipe in '{name}' has none. "
            "Leave --prior out"
        )
    if len(weights) != spec.num_classes:
        raise UsageError(
            f"--prior needs one class weight per class, and '{name}' was trained with those of "
            f"{len(weights)} classes and gives {spec.num_classes}: its head is another one. Leave --prior out"
        )
    return [-share * math.log(weight) for weight in weights]


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options as JSON values."""
    return {
        "prior": args.prior,
        "stitch": args.stitch,
        "proposals": proposals.describe(args),
        "ensemble": ensemble.describe(args),
        "refine": refine.describe(args),
    }


def around(options: dict[str, Any]) -> list[str]:
    """Say what stood around the network: proposals, other networks, refiners."""
    said = []
    if options["proposals"]:
        said.append(f"proposals by {options['proposals']['method']}")
    if options["ensemble"]:
        said.append(f"{options['ensemble']['form']} with {', '.join(options['ensemble']['with'])}")
    if options["refine"]:
        said.append(f"refined by {', then '.join(refiner['name'] for refiner in options['refine'])}")
    return said
