"""Regions of features: exact where the answer is known, with derivatives by the boxes, on every runtime."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers.detection import RoIAlign, RoIWarp

Array = np.ndarray
BOXES = np.array([[[3.1, 4.2, 29.7, 40.3], [0, 0, 48, 56], [20.5, 11.25, 22, 55]]], np.float32)


def ramp(height: int, width: int) -> Array:
    """Two channels: 2 x + 1, and 3 y - x."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([2 * x + 1, 3 * y - x], -1)[None]


def test_a_ramp_is_sampled_exactly() -> None:
    """MNC: bin u of W' lies at x + u w / W'; RoIAlign: its mean is the ramp at the middle of the bin."""
    warped = ops.convert_to_numpy(RoIWarp((5, 7), 4)(ramp(20, 20), BOXES))
    aligned = ops.convert_to_numpy(RoIAlign((5, 7), 4, samples=3)(ramp(20, 20), BOXES))
    for index, (y0, x0, y1, x1) in enumerate(BOXES[0] / 4):
        u, v = np.arange(5)[:, None], np.arange(7)[None]
        y, x = y0 + u * (y1 - y0) / 5, x0 + v * (x1 - x0) / 7
        np.testing.assert_allclose(warped[0, index, ..., 0], (2 * x + 1).repeat(5, 0), atol=1e-4)
        np.testing.assert_allclose(warped[0, index, ..., 1], 3 * y - x, atol=1e-4)
        if index != 1:  # a box to the border takes border values, which no ramp has
            y, x = y0 - 0.5 + (u + 0.5) * (y1 - y0) / 5, x0 - 0.5 + (v + 0.5) * (x1 - x0) / 7
            np.testing.assert_allclose(aligned[0, index, ..., 1], 3 * y - x, atol=1e-4)


def test_the_whole_map_is_given_back() -> None:
    features = np.random.default_rng(0).normal(size=(2, 6, 9, 3)).astype(np.float32)
    whole = np.tile(np.array([[[0, 0, 6 * 16, 9 * 16]]], np.float32), (2, 1, 1))
    for layer in (RoIWarp((6, 9), 16), RoIAlign((6, 9), 16, samples=1)):
        np.testing.assert_allclose(ops.convert_to_numpy(layer(features, whole))[:, 0], features, atol=1e-5)


def test_far_outside_is_zero() -> None:
    far = np.array([[[-300, -300, -200, -200], [400, 0, 500, 40]]], np.float32)
    for layer in (RoIWarp(3, 8), RoIAlign(3, 8)):
        assert not ops.convert_to_numpy(layer(ramp(10, 10), far)).any()


@pytest.mark.parametrize("layer", [RoIWarp((4, 5), 4), RoIAlign((4, 5), 4)], ids=["warp", "align"])
def test_derivatives_by_the_boxes_are_those_of_finite_differences(layer: Any) -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("the gradient is taken by TensorFlow's tape")
    random = np.random.default_rng(1)
    features = random.normal(size=(1, 13, 15, 2)).astype(np.float32)
    weights = random.normal(size=(1, 3, 4, 5, 2)).astype(np.float32)
    boxes = tf.Variable(BOXES + 0.3)
    with tf.GradientTape() as tape:
        answer = tf.reduce_sum(layer(features, boxes) * weights)
    found = tape.gradient(answer, boxes).numpy()

    def value(moved: Array) -> float:
        return float((np.asarray(layer(features, moved), np.float64) * weights).sum())

    differences = np.zeros_like(found)
    for place in np.ndindex(found.shape):
        step = np.zeros_like(BOXES)
        step[place] = 0.02
        differences[place] = (value(BOXES + 0.3 + step) - value(BOXES + 0.3 - step)) / 0.04
    assert np.abs(found).min() > 1e-3
    np.testing.assert_allclose(found, differences, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("layer", [RoIWarp(4, 4), RoIAlign(4, 4)], ids=["warp", "align"])
@pytest.mark.parametrize("shape", [(12, 14, 3), (None, None, 3)], ids=["known", "unknown"])
def test_they_convert(
    layer: Any, shape: tuple, run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any
) -> None:
    image = keras.Input(shape, name="image")
    means = ops.mean(image, axis=(1, 2), keepdims=True)[..., :1]
    boxes = ops.reshape(means * 0 + np.array([4.0, 6, 30, 50], np.float32), (-1, 1, 4))
    model = keras.Model(image, layer(image, boxes))
    x = np.random.default_rng(2).normal(size=(1, 12, 14, 3)).astype(np.float32)
    expected = ops.convert_to_numpy(model(x))
    assert expected.shape == (1, 1, 4, 4, 3)
    proto = to_onnx(model, (1, 12, 14, 3) if shape[0] else (None, None, None, 3))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    assert parse_tensorrt(proto) == []
    if shape[0]:
        np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)


def test_they_are_read_back() -> None:
    for layer in (RoIWarp((28, 14), 16), RoIAlign(7, 8, samples=4)):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
