"""The numpy confusion matrix against a slow count and against hand-made numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg.errors import DataError, UsageError
from kseg.metrics import confusion as module
from kseg.metrics.confusion import SCORES, Confusion


def slow_matrix(truth, prediction, classes, ignore_id):
    matrix = np.zeros((classes, classes), dtype=object)
    for true, predicted in zip(np.ravel(truth), np.ravel(prediction), strict=True):
        if true != ignore_id:
            matrix[int(true), int(predicted)] += 1
    return matrix


def slow_scores(matrix):
    """FCN's score.py with Python integers, one class after the other."""
    classes = range(len(matrix))
    truth = [sum(matrix[i][j] for j in classes) for i in classes]
    predicted = [sum(matrix[i][j] for i in classes) for j in classes]
    union = [truth[i] + predicted[i] - matrix[i][i] for i in classes]
    iou = [matrix[i][i] / union[i] if union[i] else None for i in classes]
    acc = [matrix[i][i] / truth[i] if truth[i] else None for i in classes]
    seen = [value for value in iou if value is not None]
    present = [i for i in classes if truth[i]]
    return {
        "miou": sum(seen) / len(seen),
        "miou_present": sum(iou[i] for i in present) / len(present),
        "pixel_acc": sum(matrix[i][i] for i in classes) / sum(truth),
        "mean_acc": sum(acc[i] for i in present) / len(present),
        "fwiou": sum(truth[i] * iou[i] for i in present) / sum(truth),
        "iou": iou,
        "acc": acc,
    }


def assert_scores(received, wanted):
    assert received.keys() == wanted.keys()
    for name in SCORES:
        assert received[name] == pytest.approx(wanted[name], rel=1e-12)
    for name in ("iou", "acc"):
        assert [v is None for v in received[name]] == [v is None for v in wanted[name]]
        numbers = [v for v in received[name] if v is not None]
        assert numbers == pytest.approx([v for v in wanted[name] if v is not None], rel=1e-12)


def test_three_class_toy_by_hand():
    # Rows are truth: 4 + 1 + 0, 2 + 3 + 0, 0 + 0 + 10.
    scores = Confusion.from_matrix([[4, 1, 0], [2, 3, 0], [0, 0, 10]]).scores()
    assert scores["iou"] == pytest.approx([4 / 7, 3 / 6, 1.0])
    assert scores["acc"] == pytest.approx([4 / 5, 3 / 5, 1.0])
    assert scores["miou"] == pytest.approx((4 / 7 + 1 / 2 + 1) / 3)
    assert scores["pixel_acc"] == pytest.approx(17 / 20)
    assert scores["mean_acc"] == pytest.approx((0.8 + 0.6 + 1) / 3)
    assert scores["fwiou"] == pytest.approx((5 * 4 / 7 + 5 / 2 + 10) / 20)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from([255, -1]))
def test_equals_a_slow_count(classes, seed, ignore_id):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (5, 7)).astype("int32")
    truth[rng.random(truth.shape) < 0.3] = ignore_id
    truth[0, 0] = 0
    prediction = rng.integers(0, classes, truth.shape).astype("uint8")
    confusion = Confusion(classes, ignore_id).update(truth, prediction)
    wanted = slow_matrix(truth, prediction, classes, ignore_id)
    np.testing.assert_array_equal(confusion.matrix, wanted)
    assert_scores(confusion.scores(), slow_scores(wanted))


def test_absent_and_only_predicted_classes():
    # Class 1 is predicted and never true; class 2 is nowhere.
    scores = Confusion(3).update(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])).scores()
    assert scores["iou"] == [0.75, 0.0, None]
    assert scores["acc"] == [0.75, None, None]
    assert scores["miou"] == 0.375
    assert scores["miou_present"] == 0.75
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_what_is_predicted_under_ignored_pixels_is_not_looked_at():
    truth = np.array([[0, 1, 255, 255]], "uint8")
    first = Confusion(2).update(truth, np.array([[0, 0, 1, 0]]))
    second = Confusion(2).update(truth, np.array([[0, 0, 0, 77]]))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.total == 2


def test_pieces_and_sums_equal_at_once(monkeypatch):
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 5, (2, 9, 11, 13))
    truth[truth == 4] = 255
    whole = Confusion(5).update(truth, prediction)
    parts = [Confusion(5).update(t, p) for t, p in zip(truth, prediction, strict=True)]
    np.testing.assert_array_equal(sum(parts[1:], parts[0]).matrix, whole.matrix)
    monkeypatch.setattr(module, "_CHUNK", 17)
    np.testing.assert_array_equal(Confusion(5).update(truth, prediction).matrix, whole.matrix)


def test_exact_far_beyond_float_precision():
    big = 2**60 + 1
    confusion = Confusion.from_matrix(np.array([[big, 0], [0, 0]])).update(np.array([0]), np.array([0]))
    assert confusion.matrix[0, 0] == big + 1
    assert confusion.matrix.dtype == np.int64


def test_foreground_iou():
    confusion = Confusion.from_matrix([[50, 2, 3], [4, 10, 5], [1, 0, 20]])
    # Foreground is right in 10 + 5 + 0 + 20 pixels; wrong against background in 2 + 3 + 4 + 1.
    assert confusion.foreground_iou() == pytest.approx(35 / 45)
    two = Confusion.from_matrix([[5, 1], [2, 7]])
    assert two.foreground_iou() == pytest.approx(two.scores()["iou"][1])
    assert Confusion.from_matrix([[5, 0], [0, 0]]).foreground_iou() is None
    with pytest.raises(UsageError, match="background"):
        two.foreground_iou(2)


def test_nothing_to_score_is_said():
    confusion = Confusion(3).update(np.full((2, 2), 255), np.zeros((2, 2), int))
    with pytest.raises(DataError, match="nothing to score"):
        confusion.scores()


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "message"),
    [
        (np.array([0, 7, 9]), np.array([0, 0, 0]), DataError, "ids 7, 9,.*ignore_id=255"),
        (np.array([-2]), np.array([0]), DataError, "ids -2"),
        (np.array([0, 1]), np.array([1, 3]), UsageError, "ids 0-2.*Received: 3"),
        (np.array([0]), np.array([-1]), UsageError, "Received: -1"),
        (np.array([0, 1]), np.array([0]), UsageError, "one shape"),
        (np.array([0.0]), np.array([0]), UsageError, "`truth` must hold integer"),
        (np.array([0]), np.array([0.5]), UsageError, "`prediction` must hold integer"),
    ],
)
def test_wrong_input_is_refused_and_not_counted(truth, prediction, error, message):
    confusion = Confusion(3)
    with pytest.raises(error, match=message):
        confusion.update(truth, prediction)
    assert confusion.total == 0


def test_wrong_sums_and_matrices_are_refused():
    with pytest.raises(UsageError, match="can be added"):
        Confusion(3) + Confusion(4)
    for matrix in ([[1, 2]], [[-1, 0], [0, 1]], [[0.5, 0], [0, 1]]):
        with pytest.raises(UsageError, match="square matrix"):
            Confusion.from_matrix(matrix)
    with pytest.raises(UsageError, match="`num_classes` must be a positive integer"):
        Confusion(0)


def test_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys; from kseg.metrics import Confusion; import numpy as np;"
        "Confusion(2).update(np.array([0, 1]), np.array([0, 1])).scores();"
        "print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
