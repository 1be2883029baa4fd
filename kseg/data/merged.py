"""Classes that are unions of a data set's classes: what a second head may tell apart.

Needs numpy only, because it is used where a model file is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kseg import records
from kseg.errors import ArtefactError, UsageError
from kseg.spec import Color, Spec

MEMBER = "merged"
_NAMED = 3  # classes in the name of a union
_IDS = 2**16  # more than any mask holds


def merged_spec(spec: Spec, labels: Sequence[int], count: int) -> Spec:
    """Return the Spec of a network whose class k is the union of the classes with label k.

    A union is called after its first three classes and has the colour of the first; `spec.data["merged"]`
    keeps where it came from.

    Args:
        spec: of the data, or of a network that tells all its classes apart.
        labels: union of each class id, 0 to `count - 1`.
        count: number of unions.

    Raises:
        UsageError: if there is not one label per class.
    """
    if len(labels) != spec.num_classes:
        raise UsageError(
            "Merging takes one label per class. "
            f"Received: {len(labels)} labels for {spec.num_classes} classes"
        )
    names, palette = [], []
    for union in range(count):
        members = [index for index, label in enumerate(labels) if label == union]
        name = "+".join(spec.classes[index] for index in members[:_NAMED])
        further = len(members) - _NAMED
        names.append((name + (f"+{further} more" if further > 0 else "")) or f"nothing ({union})")
        palette.append(spec.palette[members[0]] if members else (0, 0, 0))
    source = {"classes": list(spec.classes), "palette": list(spec.palette), "labels": list(labels)}
    return spec.replace(classes=tuple(names), palette=tuple(palette), data={**spec.data, MEMBER: source})


def original_spec(spec: Spec) -> Spec:
    """Return the Spec that `merged_spec` was given; `spec` itself if its classes are no unions."""
    source = _source(spec)
    if source is None:
        return spec
    data = {key: value for key, value in spec.data.items() if key != MEMBER}
    return spec.replace(classes=source.classes, palette=source.palette, data=data)


class _Source(records.Record, frozen=True):
    """The classes that a network's own are unions of, and the union of each."""

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    labels: tuple[records.Count, ...]


def _source(spec: Spec) -> _Source | None:
    if spec.data.get(MEMBER) is None:
        return None
    found = records.convert(spec.data[MEMBER], _Source, where=f"The spec, `data.{MEMBER}`")
    counts = {len(found.classes), len(found.palette), len(found.labels)}
    if len(counts) > 1 or not all(label < spec.num_classes for label in found.labels):
        raise ArtefactError(
            f"The spec, `data.{MEMBER}`: `labels` must say for each class which of the {spec.num_classes} "
            "unions it is in"
        )
    return found


class Merged(Sequence[Any]):
    """Labelled samples with their truth in unions of classes; void stays void.

    Args:
        samples: with `.spec`, of the classes that `model` merges.
        model: Spec of the model.
    """

    def __init__(self, samples: Any, model: Spec) -> None:
        self._samples = samples
        self.spec = model
        # Ids that are neither a class nor void stay what they are, so that counting still refuses them.
        self._table = np.arange(_IDS, dtype=np.int32)
        source = _source(model)
        if source is not None:
            self._table[: len(source.labels)] = source.labels
        self._table[samples.spec.ignore_id] = model.ignore_id

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        sample = self._samples[index]
        return dataclasses.replace(sample, mask=self._table[sample.mask])


def in_classes_of(model: Spec, samples: Any) -> Any:
    """Return `samples` with their truth in the classes of `model`.

    These are the samples themselves, or `Merged` where the model's classes are unions of theirs.
    """
    source = _source(model)
    data = getattr(samples, "spec", None)
    if source is None or data is None or data.classes != source.classes:
        return samples
    return Merged(samples, model)


def check_classes(model: Spec, data: Spec) -> None:
    """Make sure that class ids mean the same to the model and to the data.

    Raises:
        UsageError: naming what differs, if the class lists differ in any way.
    """
    if model.classes == data.classes:
        return
    only_model = [name for name in model.classes if name not in data.classes]
    only_data = [name for name in data.classes if name not in model.classes]
    parts = []
    if only_model:
        parts.append(f"only the model has {', '.join(only_model)}")
    if only_data:
        parts.append(f"only the data have {', '.join(only_data)}")
    if not parts:
        place = next(i for i, (a, b) in enumerate(zip(model.classes, data.classes, strict=True)) if a != b)
        parts.append(
            f"the order differs: class {place} is '{model.classes[place]}' and '{data.classes[place]}'"
        )
    raise UsageError(
        f"The model's {model.num_classes} classes and the data's {data.num_classes} are not the same: "
        f"{'; '.join(parts)}. Evaluate on data with the classes that the model was trained on"
    )
