"""Classes that are unions of others: names, colours, truth, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from kseg.data import Sample
from kseg.data.merged import in_classes_of, merged_spec, original_spec
from kseg.errors import DataError, UsageError
from kseg.metrics.confusion import Confusion
from kseg.spec import Spec

SPEC = Spec(
    classes=("sky", "road", "car", "tree", "house", "pole"),
    palette=tuple((index, 0, 0) for index in range(6)),
    ignore_id=255,
    data={"source": "street"},
)
LABELS = [0, 1, 2, 2, 2, 2]


class Labelled(list):
    """Samples that know their classes."""

    spec = SPEC


def _samples(*masks: list[int]) -> Labelled:
    arrays = [np.array([mask], "uint8") for mask in masks]
    return Labelled(Sample("s", np.zeros((*mask.shape, 3), "uint8"), mask) for mask in arrays)


def test_unions_are_named_and_coloured_after_their_first_classes() -> None:
    merged = merged_spec(SPEC, LABELS, 4)
    assert merged.classes == ("sky", "road", "car+tree+house+1 more", "nothing (3)")
    assert merged.palette == ((0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 0, 0))
    assert merged.ignore_id == 255


def test_the_way_back_survives_a_file() -> None:
    read = Spec.from_json(merged_spec(SPEC, LABELS, 3).to_json())
    assert original_spec(read) == SPEC
    assert original_spec(SPEC) is SPEC


def test_truth_is_merged_and_void_stays_void() -> None:
    samples = _samples([0, 1, 2, 3, 4, 5, 255], [5, 255])
    merged = in_classes_of(merged_spec(SPEC, LABELS, 3), samples)
    assert [sample.mask.tolist() for sample in merged] == [[[0, 1, 2, 2, 2, 2, 255]], [[2, 255]]]
    assert (len(merged), merged.spec.num_classes) == (2, 3)
    assert samples[0].mask.tolist() == [[0, 1, 2, 3, 4, 5, 255]]


def test_samples_of_other_classes_are_left_alone() -> None:
    samples = _samples([0, 1])
    assert in_classes_of(SPEC, samples) is samples
    assert (
        in_classes_of(merged_spec(SPEC.replace(classes=("a", *SPEC.classes[1:])), LABELS, 3), samples)
        is samples
    )


def test_unknown_ids_are_still_refused() -> None:
    merged = in_classes_of(merged_spec(SPEC, LABELS, 3), _samples([0, 9]))
    with pytest.raises(DataError, match="9"):
        Confusion(3, 255).update(merged[0].mask, np.zeros((1, 2), "uint8"))


def test_one_label_per_class_is_needed() -> None:
    with pytest.raises(UsageError, match="2 labels for 6 classes"):
        merged_spec(SPEC, [0, 1], 2)
