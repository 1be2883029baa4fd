"""The outputs of a network that classifies regions."""

from __future__ import annotations

from kseg.spec import Spec

LOGITS, MARGINS, MOVES, COARSE = "logits", "margins", "moves", "coarse"
# Cells per side of the coarse mask: that of `kseg.models.SDS`, which a board without Keras cannot ask.
CELLS = 10


def outputs(spec: Spec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes: logits, and margins, moves and coarse masks where the network has them."""
    found: dict[str, tuple[int, ...]] = {LOGITS: (spec.num_classes,)}
    if spec.arch_args.get("svms"):
        found[MARGINS] = (spec.num_classes - 1,)
    if spec.arch_args.get("moves"):
        found[MOVES] = (spec.num_classes - 1, 4)
    if spec.arch_args.get("refiner"):
        found[COARSE] = (spec.num_classes - 1, CELLS, CELLS)
    return found
