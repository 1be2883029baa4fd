"""The arguments that `evaluate` and `predict` share: how a model looks at images."""

from __future__ import annotations

import argparse
import math
from typing import Annotated, Any

import msgspec

from kseg import records, tasks
from kseg.cli import ensemble_options, proposal_options, refine_options, stitch_options, values
from kseg.errors import UsageError
from kseg.spec import RESIZE_RULES, Spec
from kseg.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `build` reads them."""
    group = parser.add_argument_group("how the model looks at an image")
    group.add_argument(
        "--size", type=values.size, metavar="HxW", help="run the network at this size (default: the model's)"
    )
    group.add_argument(
        "--resize", choices=RESIZE_RULES, help="how images meet that size (default: the model's rule)"
    )
    group.add_argument("--flip", action="store_true", help="average with the mirrored image")
    group.add_argument(
        "--scales",
        type=values.numbers("0.75,1,1.25"),
        default=(1.0,),
        metavar="S,S",
        help="average over image scales, e.g. 0.75,1,1.25",
    )
    group.add_argument(
        "--overlap",
        type=values.number(0, 0.95),
        default=0.25,
        metavar="SHARE",
        help="of neighbouring tiles (0.25)",
    )
    group.add_argument(
        "--batch-size", type=values.positive, default=1, metavar="N", help="network calls made at once (1)"
    )
    group.add_argument(
        "--prior",
        type=values.number(0, 2),
        default=0.0,
        metavar="A",
        help="subtract A * log(class weight of the training) from the logits: takes back a share of "
        "the prior that class weights changed; try 0.75 (default 0: off)",
    )
    stitch_options.add_arguments(group)
    proposal_options.add_arguments(group)
    ensemble_options.add_arguments(group)
    refine_options.add_arguments(parser)


def build(args: argparse.Namespace) -> Any:
    """Open the model with the options given: runtime, predictor, proposals, ensemble, then refiners.

    Returns:
        A predictor of the model's task, or what wraps one and has its surface.

    Raises:
        UsageError: if an option is given that the task does not have.
    """
    ensemble_options.check(args)
    refiners = refine_options.refiners(args)
    predictor = _opened(
        args, args.model, stitch_options.runtime(args, args.model), size=args.size, resize=args.resize
    )
    predictor = proposal_options.wrap(args, predictor)
    # The others look at whole images, each at its own size and by its own rule.
    predictor = ensemble_options.wrap(args, predictor, lambda path: _opened(args, path, path))
    return refine_options.refined(predictor, refiners)


def _opened(args: argparse.Namespace, path: str, source: Any, **own: Any) -> Any:
    """Return the predictor of one network, with the bias that `--prior` asks of its own training."""
    from kseg.cli.output import note_line
    from kseg.inference import load_runtime

    runtime = load_runtime(source) if isinstance(source, str) else source
    task = tasks.find(runtime.spec.task)
    _refuse_others(args, task)
    options = {
        "overlap": args.overlap,
        "batch_size": args.batch_size,
        "flip": args.flip,
        "scales": args.scales,
        "say": note_line,
        **own,
    }
    predictor = task.part("predictor")(
        runtime, **{name: value for name, value in options.items() if name in task.looks}
    )
    if args.prior:
        predictor.set_bias(prior_bias(predictor.spec, args.prior, path))
    return predictor


def _refuse_others(args: argparse.Namespace, task: tasks.Task) -> None:
    """Refuse options that are given and that a task does not have."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name, default in vars(parser.parse_args([])).items():
        if name not in task.looks and getattr(args, name) != default:
            raise UsageError(f"A model of the task '{task.name}' has no --{name.replace('_', '-')}")


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


def describe(args: argparse.Namespace, predictor: Any) -> dict[str, Any]:
    """Return the options as JSON values, as they took effect."""
    return {
        "size": list(size) if (size := getattr(predictor, "size", None)) else None,
        "resize": getattr(predictor, "resize", None),
        "flip": args.flip,
        "scales": list(args.scales),
        "overlap": args.overlap,
        "prior": args.prior,
        "stitch": args.stitch,
        "proposals": proposal_options.describe(args),
        "ensemble": ensemble_options.describe(args),
        "refine": refine_options.describe(args),
    }
