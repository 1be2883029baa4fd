"""Scoring found objects against the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kseg.errors import UsageError
from kseg.metrics.instances import InstanceScorer
from kseg.spec import Spec
from kseg.text import printable


def scorer(spec: Spec, samples: Sequence[Any]) -> tuple[InstanceScorer, Sequence[Any]]:
    """Return a scorer for the classes of a model, and the samples.

    Raises:
        UsageError: if the samples have label maps, not instances, or other classes.
    """
    own = getattr(samples, "spec", None)
    if own is not None and not own.data.get("instances", True):
        raise UsageError(
            f"The model finds objects; the data, {printable(own.data.get('source', ''))}, has label maps, "
            "not instances. Evaluate on a folder with instances_SPLIT.json, or a semantic model on this one"
        )
    if own is not None and own.classes != spec.classes:
        raise UsageError(
            f"The model finds {', '.join(spec.classes[1:])}; the data has {', '.join(own.classes[1:])}. "
            "Evaluate on data of the same classes"
        )
    return InstanceScorer(spec.classes), samples
