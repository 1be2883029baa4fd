"""The argument `--proposals` that `evaluate` and `predict` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kseg.errors import UsageError, did_you_mean
from kseg.options import named_options, size

_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _yes_or_no(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(f"expected yes or no, received '{text}'")
    return _WORDS[text.lower()]


# Options of ProposalPredictor and Proposer, and how each is read.
_READERS: dict[str, Callable[[str], Any]] = {
    "count": int,
    "min_side": float,
    "enlarge": float,
    "merge": str,
    "whole_image": _yes_or_no,
    "fallback": _yes_or_no,
    "size": size,
    "quality": _yes_or_no,
    "max_side": int,
    "seed": int,
    "edge_model": str,
    "boundaries": str,
}


def parse(text: str) -> dict[str, Any]:
    """Read `METHOD` or `METHOD:key=value,...` as the arguments of `ProposalPredictor`.

    Raises:
        ArgumentTypeError: unknown method or key, with the nearest one; a value of another kind.
    """
    from kseg.data.proposals import METHODS

    try:
        method, options = named_options(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    name = method.lower().replace("_", "-")
    if name not in METHODS:
        raise argparse.ArgumentTypeError(
            f"there are no proposals '{method}'.{did_you_mean(method, list(METHODS))} "
            f"Known: {', '.join(METHODS)}"
        )
    result: dict[str, Any] = {"method": name}
    for key, value in options.items():
        if key not in _READERS:
            raise argparse.ArgumentTypeError(
                f"proposals have no option '{key}'.{did_you_mean(key, list(_READERS))} "
                f"Known: {', '.join(_READERS)}"
            )
        try:
            result[key] = _READERS[key](value)
        except ValueError as error:
            kind = {int: "a whole number", float: "a number"}.get(_READERS[key])  # type: ignore[call-overload]
            reason = f"expected {kind}, received '{value}'" if kind else str(error)
            raise argparse.ArgumentTypeError(f"option '{key}': {reason}") from error
    return result


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the option; `wrap` reads it."""
    group.add_argument(
        "--proposals",
        type=parse,
        metavar="METHOD[:key=value,...]",
        help="look at object proposals one by one and merge their scores, as DeconvNet does: "
        "selective-search, edge-boxes or regions, e.g. edge-boxes:count=50,merge=max. Keys: count (50), "
        "merge (max or mean), min_side (pixels, or below 1 a share of the longer side; 0.224), "
        "enlarge (1.2), whole_image (no), fallback (scores of the whole image where no proposal decides; "
        "no if class 0 is the background), size (HxW), quality (no), max_side (500), seed (0), "
        "edge_model (file), boundaries (hed or color, for regions and edge-boxes)",
    )


def wrap(args: argparse.Namespace, predictor: Any) -> Any:
    """Return `predictor` on proposals when `--proposals` asks for that, else itself."""
    if args.proposals is None:
        return predictor
    from kseg.semantic.inference.proposal_predictor import ProposalPredictor

    try:
        return ProposalPredictor(predictor, **args.proposals)
    except UsageError as error:
        raise UsageError(f"--proposals: {error}") from error


def describe(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the proposals as JSON values, with the options that were given."""
    if args.proposals is None:
        return None
    return {key: list(value) if isinstance(value, tuple) else value for key, value in args.proposals.items()}
