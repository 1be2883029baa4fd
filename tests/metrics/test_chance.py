"""The score of a network that has learned nothing."""

from __future__ import annotations

import numpy as np
import pytest

from kseg.errors import DataError, UsageError
from kseg.metrics import Confusion, chance_miou, near_chance


def test_one_common_class_is_best_guessed_everywhere():
    truth = np.random.default_rng(0).choice([0, 1, 3, 255], p=[0.02, 0.86, 0.02, 0.1], size=(40, 50))
    constant = {
        value: Confusion(5).update(truth, np.full_like(truth, value)).scores()["miou"] for value in range(5)
    }
    counts = [int((truth == value).sum()) for value in range(5)]
    assert chance_miou(counts) == pytest.approx(max(constant.values()))
    assert max(constant, key=constant.__getitem__) == 1


def test_a_confusion_matrix_says_the_same_as_the_counts_of_its_truth():
    matrix = np.array([[5, 1, 0], [2, 2, 0], [0, 0, 0]])
    assert (
        chance_miou(matrix) == chance_miou(matrix.sum(axis=1)) == pytest.approx((0.6 / 1.4 + 0.4 / 1.6) / 2)
    )


def test_classes_of_like_share_are_best_drawn():
    generator = np.random.default_rng(0)
    shares = [0.3, 0.25, 0.25, 0.2]
    truth, drawn = (generator.choice(4, p=shares, size=(400, 500)) for _ in range(2))
    counts = np.bincount(truth.reshape(-1))
    assert chance_miou(counts) == pytest.approx(Confusion(4).update(truth, drawn).scores()["miou"], abs=2e-3)
    assert chance_miou(counts) > 1.5 * 0.3 / 4


def test_one_class_alone_is_no_achievement():
    assert chance_miou([7, 0]) == 1.0


@pytest.mark.parametrize("counts", [[[1, 2]], [0.5, 0.5], [-1, 2], [], 3])
def test_other_values_are_refused(counts):
    with pytest.raises(UsageError, match="chance_miou"):
        chance_miou(counts)


def test_nothing_counted_has_no_chance():
    with pytest.raises(DataError, match="no pixel"):
        chance_miou([0, 0])


@pytest.mark.parametrize(("miou", "near"), [(0.1, True), (0.3, True), (0.313, True), (0.315, False)])
def test_a_little_above_chance_is_still_chance(miou, near):
    assert near_chance(miou, 0.3) is near
