"""The outputs of a semantic network's graph."""

from __future__ import annotations

from kseg.spec import Spec

LOGITS = "logits"


def outputs(spec: Spec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of its one output: a score for every class of every pixel."""
    return {LOGITS: (*size, spec.num_classes)}
