"""What a report shows of a semantic model: cards, examples with a viewer, classes, confusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kseg.errors import UsageError
from kseg.metrics.confusion import Confusion
from kseg.semantic.report_examples import Example, examples_section
from kseg.semantic.report_tables import classes_section, confusion_section
from kseg.spec import Spec
from kseg.tasks import Page
from kseg.viz.report_exports import percent

_CARDS = {"miou": "mean IoU", "pixel_acc": "pixel accuracy", "mean_acc": "mean accuracy"}


def page(
    examples: Iterable[Example], scores: Mapping[str, Confusion | Mapping[str, Any]], spec: Spec
) -> Page:
    """Return the sections of a page; `examples` and `scores` as `kseg.viz.write_report` takes them.

    Raises:
        UsageError: if a score or an example does not fit the spec.
        DataError: if a mask has unknown ids.
    """
    splits, matrices = _read_scores(scores, spec)
    return Page(
        cards=_cards(splits, spec),
        examples=examples_section(examples, spec),
        tables=classes_section(splits, spec) + confusion_section(matrices, spec),
    )


def _read_scores(
    scores: Mapping[str, Confusion | Mapping[str, Any]], spec: Spec
) -> tuple[dict[str, dict[str, Any]], dict[str, Confusion]]:
    """Return the scores and, where there is one, the matrix of each split."""
    splits: dict[str, dict[str, Any]] = {}
    matrices: dict[str, Confusion] = {}
    for name, given in scores.items():
        if isinstance(given, Confusion):
            matrices[name] = given
            splits[name] = given.scores()
        else:
            splits[name] = dict(given)
            if given.get("matrix") is not None:
                matrices[name] = Confusion.from_matrix(given["matrix"], spec.ignore_id)
    for name, values in splits.items():
        lengths = {len(values[key]) for key in ("iou", "acc") if values.get(key) is not None}
        lengths |= {matrices[name].num_classes} if name in matrices else set()
        if lengths - {spec.num_classes}:
            raise UsageError(
                f"The scores of '{name}' must be over the {spec.num_classes} classes of the spec. "
                f"Received: {sorted(lengths)}"
            )
    return splits, matrices


def _cards(splits: Mapping[str, Mapping[str, Any]], spec: Spec) -> list[tuple[str, str]]:
    """Return the headline numbers of each split; with two classes also the second one's IoU."""
    cards = []
    for split, values in splits.items():
        chosen = {label: values[key] for key, label in _CARDS.items() if values.get(key) is not None}
        if spec.num_classes == 2 and values.get("iou") is not None:
            chosen = {f"IoU of {spec.classes[1]}": values["iou"][1], **chosen}
        cards += [(percent(value), f"{label}, {split}") for label, value in chosen.items()]
    return cards
