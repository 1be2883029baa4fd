"""Colour spaces against scikit-image, from every normalisation, with gradients and on the runtimes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from skimage import color

from kseg.errors import UsageError
from kseg.layers import RGBToLab, RGBToYUV
from kseg.spec import Normalization

IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
CAFFE = Normalization(order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
REFERENCES = {"yuv": (RGBToYUV, color.rgb2yuv, 1e-5), "lab": (RGBToLab, color.rgb2lab, 5e-3)}


def picture() -> np.ndarray:
    """uint8 (1, 24, 40, 3): random colours, the corners of the cube, greys, and the darkest steps."""
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 40, 3)).astype("uint8")
    image[0, 0, :8] = np.indices((2, 2, 2)).reshape(3, -1).T * 255
    image[0, 1, :40] = np.linspace(0, 255, 40)[:, None]
    image[0, 2, :40] = np.arange(40)[:, None]
    return image


def normalized(image: np.ndarray, how: Normalization) -> np.ndarray:
    channels = image if how.order == "rgb" else image[..., ::-1]
    return ((channels - np.array(how.mean)) / np.array(how.std)).astype("float32")


@pytest.mark.parametrize("space", REFERENCES)
@pytest.mark.parametrize("how", [Normalization(), IMAGENET, CAFFE], ids=["default", "imagenet", "caffe"])
def test_agrees_with_scikit_image(space: str, how: Normalization) -> None:
    layer, reference, tolerance = REFERENCES[space]
    image = picture()
    found = keras.ops.convert_to_numpy(layer(how)(normalized(image, how)))
    np.testing.assert_allclose(found, reference(image / 255.0), atol=tolerance)


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [("yuv", (0, -0.436, -0.615), (1, 0.436, 0.615)), ("lab", (0, -86.2, -107.9), (100, 98.3, 94.5))],
)
def test_documented_range_is_reached_and_kept(space: str, low: tuple, high: tuple) -> None:
    steps = np.linspace(0, 255, 18)
    image = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, 54, 108, 3)
    layer, _, _ = REFERENCES[space]
    found = keras.ops.convert_to_numpy(layer()(normalized(image, Normalization())))
    slack = 0.002 * (np.array(high) - np.array(low))
    assert (np.abs(found.min((0, 1, 2)) - low) < slack).all()
    assert (np.abs(found.max((0, 1, 2)) - high) < slack).all()


def test_grey_has_no_colour() -> None:
    image = normalized(np.full((1, 2, 2, 3), 90, "uint8"), IMAGENET)
    for layer in (RGBToYUV(IMAGENET), RGBToLab(IMAGENET)):
        found = keras.ops.convert_to_numpy(layer(image))
        assert np.abs(found[..., 1:]).max() < 5e-3 < found[..., 0].min()


def test_lab_has_finite_gradients_from_black_to_white() -> None:
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradient by tf.GradientTape")
    import tensorflow as tf

    x = tf.constant(normalized(picture(), Normalization()))
    layer = RGBToLab()
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x))
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, 2, 0]).max() > 0  # black


def test_float32_in_a_mixed_policy_and_config_round_trip() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = RGBToYUV(CAFFE)
    finally:
        keras.config.set_dtype_policy(before)
    image = normalized(picture(), CAFFE)
    again = RGBToYUV.from_config(layer.get_config())
    assert again.normalization == CAFFE
    found = keras.ops.convert_to_numpy(layer(image))
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, keras.ops.convert_to_numpy(again(image)))


def test_refuses_other_channel_counts_and_unknown_keys() -> None:
    with pytest.raises(
        UsageError, match=r"RGBToLab takes colour images .* Received: shape \(None, 4, 4, 1\)"
    ):
        RGBToLab()(keras.Input((4, 4, 1)))
    with pytest.raises(UsageError, match="mapping with keys of order, mean, std"):
        RGBToYUV({"means": (0, 0, 0)})


@pytest.mark.parametrize("space", REFERENCES)
def test_exports(space: str, run_tflite, to_onnx, run_onnx, parse_tensorrt) -> None:
    layer, _, _ = REFERENCES[space]
    inputs = keras.Input((24, 40, 3), name="image")
    model = keras.Model(inputs, layer()(inputs))
    x = normalized(picture(), Normalization())
    expected = keras.ops.convert_to_numpy(model(x))
    proto = to_onnx(model, (None, None, None, 3))
    for found in (run_tflite(model, x), run_onnx(proto, x)):
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert parse_tensorrt(proto) == []
