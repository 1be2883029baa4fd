"""The arguments `--ensemble...` that `evaluate` and `predict` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kseg import parsers
from kseg.errors import UsageError, did_you_mean


def _form(text: str) -> str:
    from kseg.semantic.inference.ensemble import FORMS

    if text not in FORMS:
        raise argparse.ArgumentTypeError(
            f"there is no form '{text}'.{did_you_mean(text, list(FORMS))} Known: {', '.join(FORMS)}"
        )
    return text


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options; `wrap` reads them."""
    group.add_argument(
        "--ensemble",
        action="append",
        default=[],
        metavar="FILE",
        help="combine with another model or artefact of the same classes, which looks at whole images (also "
        "when --proposals is given: EDeconvNet); may be given several times",
    )
    group.add_argument(
        "--ensemble-form",
        type=_form,
        default=None,
        metavar="FORM",
        help="mean of the probabilities (default), or product: the model's scores times max(0, the other's), "
        "as EDeconvNet's code has it",
    )
    group.add_argument(
        "--ensemble-weights",
        type=parsers.numbers("2,1"),
        default=None,
        metavar="W,W...",
        help="weights of the mean: of the model first, then of each --ensemble in order (default: equal)",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse a form or weights without an ensemble, before a model is opened."""
    for option in ("form", "weights"):
        if getattr(args, f"ensemble_{option}") is not None and not args.ensemble:
            raise UsageError(f"--ensemble-{option} needs --ensemble FILE")


def wrap(args: argparse.Namespace, predictor: Any, open_other: Callable[[str], Any]) -> Any:
    """Return `predictor` combined with the others that `--ensemble` names, else itself.

    Args:
        args: the parsed options.
        predictor: the first member.
        open_other: opens another member from its path.
    """
    if not args.ensemble:
        return predictor
    from kseg.semantic.inference.ensemble import EnsemblePredictor

    others = [open_other(path) for path in args.ensemble]
    return EnsemblePredictor([predictor, *others], args.ensemble_form or "mean", args.ensemble_weights)


def describe(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the ensemble as JSON values."""
    if not args.ensemble:
        return None
    form = {"form": args.ensemble_form or "mean", "with": list(args.ensemble)}
    return form if args.ensemble_weights is None else {**form, "weights": list(args.ensemble_weights)}
