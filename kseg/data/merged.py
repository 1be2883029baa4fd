"""Classes that are unions of a data set's classes: what FCN's second head tells apart.

Needs numpy only, because it is used where a model file is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseg.errors import UsageError
from kseg.spec import Spec

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
    source = spec.data.get(MEMBER)
    if source is None:
        return spec
    data = {key: value for key, value in spec.data.items() if key != MEMBER}
    return spec.replace(classes=tuple(source["classes"]), palette=tuple(source["palette"]), data=data)


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
        self._table[: samples.spec.num_classes] = model.data[MEMBER]["labels"]
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
    source: Mapping[str, Any] | None = model.data.get(MEMBER)
    data = getattr(samples, "spec", None)
    if source is None or data is None or data.classes != tuple(source["classes"]):
        return samples
    return Merged(samples, model)
