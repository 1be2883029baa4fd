"""Suppression equals the sequential algorithm, TensorFlow's and our own, whatever the boxes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers.detection import NonMaximumSuppression

Array = np.ndarray


def sequential(boxes: Array, scores: Array, threshold: float, keep: int) -> list[int]:
    """The textbook's loop."""
    order = [index for index in np.argsort(-scores, kind="stable") if scores[index] > 0]
    chosen: list[int] = []
    for index in order:
        y0, x0, y1, x1 = boxes[index]
        for other in chosen:
            a0, b0, a1, b1 = boxes[other]
            common = max(0, min(y1, a1) - max(y0, a0)) * max(0, min(x1, b1) - max(x0, b0))
            union = (y1 - y0) * (x1 - x0) + (a1 - a0) * (b1 - b0) - common
            if common / max(union, 1e-9) > threshold:
                break
        else:
            chosen.append(int(index))
    return chosen[:keep]


def layer_s(layer: NonMaximumSuppression, boxes: Array, scores: Array) -> list[list[int]]:
    indices, real = (ops.convert_to_numpy(item) for item in layer(boxes, scores))
    return [row[mask > 0].tolist() for row, mask in zip(indices, real, strict=True)]


def crowded(seed: int, count: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 60, (count, 2)), random.uniform(5, 40, (count, 2))
    return np.concatenate([corner, corner + side], 1).astype(np.float32), random.random(count, np.float32)


def chain(length: int) -> tuple[Array, Array]:
    """Each box overlaps the next only: every second one stays."""
    start = 6.0 * np.arange(length)
    boxes = np.stack([np.zeros(length), start, np.full(length, 10.0), start + 10], 1).astype(np.float32)
    return boxes, np.linspace(1, 0.1, length, dtype=np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_random_boxes(seed: int, threshold: float) -> None:
    many = [crowded(10 * seed + image, 200) for image in range(2)]
    boxes, scores = (np.stack(values) for values in zip(*many, strict=True))
    found = layer_s(NonMaximumSuppression(threshold, keep=50), boxes, scores)
    assert found == [sequential(*image, threshold, 50) for image in many]


def test_tensorflow_answers_the_same() -> None:
    tf = pytest.importorskip("tensorflow")
    boxes, scores = crowded(3, 300)
    expected = tf.image.non_max_suppression(boxes, scores, 80, 0.5).numpy().tolist()
    assert layer_s(NonMaximumSuppression(0.5, keep=80), boxes[None], scores[None]) == [expected]


@pytest.mark.parametrize("length", [2, 3, 60, 301])
def test_long_chains_of_suppression(length: int) -> None:
    """Fixed steps are exact up to their number and the loop always is."""
    boxes, scores = chain(length)
    exact = sequential(boxes, scores, 0.2, length)
    assert exact == list(range(0, length, 2))
    assert layer_s(NonMaximumSuppression(0.2, keep=length), boxes[None], scores[None]) == [exact]
    enough = NonMaximumSuppression(0.2, keep=length, steps=length)
    assert layer_s(enough, boxes[None], scores[None]) == [exact]
    few = layer_s(NonMaximumSuppression(0.2, keep=length, steps=4), boxes[None], scores[None])[0]
    assert [index for index in few if index < 4] == [index for index in exact if index < 4]


def test_rows_that_are_no_box() -> None:
    boxes, scores = chain(5)
    scores[1:3] = (0, np.nan)
    indices, real = (
        ops.convert_to_numpy(item) for item in NonMaximumSuppression(0.2, keep=7)(boxes[None], scores[None])
    )
    assert real.tolist() == [[1, 1, 0, 0, 0, 0, 0]]
    assert indices[0, :2].tolist() == [0, 3]
    assert indices.shape == (1, 7)
    assert indices.max() < 5
    nothing = layer_s(NonMaximumSuppression(0.2, keep=3), boxes[None], np.zeros((1, 5), np.float32))
    assert nothing == [[]]


def test_equal_scores_go_by_their_place() -> None:
    boxes, _ = chain(6)
    assert layer_s(NonMaximumSuppression(0.2, keep=6), boxes[None], np.ones((1, 6), np.float32)) == [
        [0, 2, 4]
    ]


def test_only_the_best_are_looked_at() -> None:
    boxes, scores = crowded(5, 100)
    best = np.argsort(-scores)[:20]
    rest = np.where(np.isin(np.arange(100), best), scores, 0)
    found = layer_s(NonMaximumSuppression(0.5, keep=10, before=20), boxes[None], scores[None])
    assert found == [sequential(boxes, rest, 0.5, 10)]


def test_arguments() -> None:
    for wrong in (
        {"threshold": 1.5, "keep": 3},
        {"threshold": 0.5, "keep": 0},
        {"threshold": 0.5, "keep": 9, "before": 3},
    ):
        with pytest.raises(UsageError):
            NonMaximumSuppression(**wrong)
    with pytest.raises(UsageError, match="needs `before`"):
        NonMaximumSuppression(0.5, 3)(keras.Input((None, 4)), keras.Input((None,)))
    layer = NonMaximumSuppression(0.5, 3, before=9, steps=8)
    assert NonMaximumSuppression.from_config(layer.get_config()).get_config() == layer.get_config()


def _network(count: int | None, **arguments: Any) -> keras.Model:
    """Numbers (B, N, 5) -> the boxes that stay and their scores (B, keep, 5)."""
    image = keras.Input((count, 5), name="image")
    indices, real = NonMaximumSuppression(0.4, keep=12, **arguments)(image[..., :4], image[..., 4])
    chosen = ops.take_along_axis(image, indices[..., None], axis=1)
    return keras.Model(image, chosen * real[..., None])


@pytest.mark.parametrize("steps", [None, 16])
def test_it_converts(
    steps: int | None, run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any
) -> None:
    model = _network(40, steps=steps)
    boxes, scores = crowded(7, 40)
    x = np.concatenate([boxes, scores[:, None]], 1)[None]
    expected = ops.convert_to_numpy(model(x))
    assert (expected[0, :, 4] > 0).sum() > 5
    np.testing.assert_allclose(run_tflite(model, x), expected, atol=1e-5)
    proto = to_onnx(model, (1, 40, 5))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=1e-5)
    assert parse_tensorrt(proto) == []


def test_an_unknown_number_of_boxes(to_onnx: Any, run_onnx: Any) -> None:
    model = _network(None, before=30)
    proto = to_onnx(model, (None, None, 5))
    for count in (8, 50):
        boxes, scores = crowded(count, count)
        x = np.concatenate([boxes, scores[:, None]], 1)[None]
        chosen = sequential(boxes, scores, 0.4, 12)
        expected = np.zeros((1, 12, 5), np.float32)
        expected[0, : len(chosen)] = x[0, chosen]
        np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, atol=1e-5)
        np.testing.assert_allclose(run_onnx(proto, x), expected, atol=1e-5)


def test_groups_do_not_suppress_each_other() -> None:
    boxes, scores = crowded(11, 120)
    groups = np.random.default_rng(0).integers(0, 3, 120).astype(np.float32)
    chosen = [np.flatnonzero(groups == group) for group in range(3)]
    expected = [own[sequential(boxes[own], scores[own], 0.3, 120)] for own in chosen]
    indices, real = (
        ops.convert_to_numpy(item)
        for item in NonMaximumSuppression(0.3, keep=120)(boxes[None], scores[None], groups[None])
    )
    found = indices[0][real[0] > 0]
    assert sorted(found.tolist()) == sorted(np.concatenate(expected).tolist())
    assert (np.diff(scores[found]) <= 0).all()
