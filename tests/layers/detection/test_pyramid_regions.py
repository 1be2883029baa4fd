"""Each box in its level: equal to RoIAlign of that level."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers.detection import PyramidRoIAlign, RoIAlign

STRIDES = (4, 8, 16)
# Sides 20, 60 and 300 about: with 112 as the canonical side of stride 16, levels 0, 1 and 2.
BOXES = np.array(
    [[[3, 5, 23, 24], [10, 12, 71, 70], [0, 0, 64, 96], [30, 40, 45, 61]]] * 2, np.float32
) + np.array([[[0.0]], [[1.5]]], np.float32)


def pyramid(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(2, 64 // s, 96 // s, 5)).astype(np.float32) for s in STRIDES]


def test_every_box_is_aligned_in_its_level() -> None:
    features = pyramid()
    layer = PyramidRoIAlign((3, 4), STRIDES, canonical=64)
    found = ops.convert_to_numpy(layer(BOXES, features))
    assert found.shape == (2, 4, 3, 4, 5)
    sizes = np.sqrt((BOXES[..., 2] - BOXES[..., 0]) * (BOXES[..., 3] - BOXES[..., 1]))
    levels = np.clip(np.floor(np.log2(sizes / 64) + 2), 0, 2).astype(int)
    assert set(levels.ravel()) == {0, 1, 2}
    for level, stride in enumerate(STRIDES):
        single = ops.convert_to_numpy(RoIAlign((3, 4), stride)(features[level], BOXES))
        np.testing.assert_allclose(found[levels == level], single[levels == level], atol=1e-5)


def test_gradients_reach_the_features() -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("the gradient is taken by TensorFlow's tape")
    features = [tf.Variable(level) for level in pyramid()]
    layer = PyramidRoIAlign(3, STRIDES, canonical=64)
    with tf.GradientTape() as tape:
        answer = tf.reduce_sum(layer(BOXES, features))
    gradients = tape.gradient(answer, features)
    # Every sample's weights are 1 in all: each of 3 x 3 bins is a mean.
    total = sum(float(tf.reduce_sum(gradient)) for gradient in gradients)
    assert total == pytest.approx(2 * 4 * 3 * 3 * 5, rel=1e-4)


@pytest.mark.parametrize("shape", [(64, 96, 3), (None, None, 3)], ids=["known", "unknown"])
def test_it_converts(shape: tuple, run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any) -> None:
    image = keras.Input(shape, name="image")
    levels = [keras.layers.AveragePooling2D(stride, name=f"pool{stride}")(image) for stride in STRIDES]
    anchor = ops.mean(image, axis=(1, 2), keepdims=True)[..., :1] * 0
    boxes = ops.reshape(anchor + BOXES[0].reshape(1, 1, 1, -1), (-1, 4, 4))
    model = keras.Model(image, PyramidRoIAlign(3, STRIDES, canonical=64)(boxes, levels))
    x = np.random.default_rng(2).normal(size=(1, 64, 96, 3)).astype(np.float32)
    expected = ops.convert_to_numpy(model(x))
    assert expected.shape == (1, 4, 3, 3, 3)
    proto = to_onnx(model, (1, 64, 96, 3) if shape[0] else (None, None, None, 3))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    assert parse_tensorrt(proto) == []
    if shape[0]:
        np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)
    layer = model.layers[-1]
    assert PyramidRoIAlign.from_config(layer.get_config()).get_config() == layer.get_config()
