"""Laplacian pyramid and local normalisation: numpy and scipy references, constant images, the runtimes."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, LaplacianPyramid, LocalNormalization


def numpy_of(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def halved(x: np.ndarray) -> np.ndarray:
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


@pytest.mark.parametrize("size", [(4, 4), (16, 28), (64, 48)])
@pytest.mark.parametrize("value", [0.37, -123.4])
def test_constant_image_has_no_bands_and_normalises_to_zero(size: tuple[int, int], value: float) -> None:
    levels = LaplacianPyramid(3)(np.full((2, *size, 3), value, "float32"))
    assert not numpy_of(levels[0]).any()
    assert not numpy_of(levels[1]).any()
    np.testing.assert_array_equal(numpy_of(levels[2]), np.float32(value))
    # What rounding leaves of the mean is divided by one 8-bit step at least.
    for level in levels:
        assert np.abs(numpy_of(LocalNormalization()(level))).max() <= 255 * 2e-6 * abs(value)


def test_levels_are_what_area_averaging_loses() -> None:
    x = noise(2, 24, 32, 3)
    levels = [numpy_of(level) for level in LaplacianPyramid(3)(x)]
    assert [level.shape for level in levels] == [(2, 24, 32, 3), (2, 12, 16, 3), (2, 6, 8, 3)]
    np.testing.assert_allclose(levels[2], x.reshape(2, 6, 4, 8, 4, 3).mean((2, 4)), atol=1e-6)
    enlarge = BilinearUpsampling(2)
    np.testing.assert_allclose(levels[0], x - numpy_of(enlarge(halved(x))), atol=1e-6)
    rebuilt = levels[0] + numpy_of(enlarge(levels[1] + numpy_of(enlarge(levels[2]))))
    np.testing.assert_allclose(rebuilt, x, atol=1e-5)


def test_levels_are_bands_of_frequencies() -> None:
    columns = np.arange(64)
    energy = []
    for period in (2.5, 24):
        wave = np.tile(np.sin(2 * np.pi * columns / period), (64, 1))[None, :, :, None].astype("float32")
        energy.append([float(np.square(numpy_of(level)).mean()) for level in LaplacianPyramid(3)(wave)])
    assert np.argmax(energy[0]) == 0
    assert np.argmax(energy[1]) == 2


def test_one_level_is_the_image() -> None:
    x = noise(1, 5, 7, 2)
    (level,) = LaplacianPyramid(1)(x)
    np.testing.assert_array_equal(numpy_of(level), x)


@pytest.mark.parametrize(("size", "window"), [((21, 34), (15, 15)), ((6, 40), (15, 15)), ((12, 9), (3, 5))])
def test_normalisation_agrees_with_windows_that_end_at_the_border(
    size: tuple[int, int], window: tuple[int, int]
) -> None:
    x = noise(2, *size, 3) * 2 + 5

    def mean(values: np.ndarray) -> np.ndarray:
        window_of_all = {"size": (1, *window, 1), "mode": "constant"}
        inside = uniform_filter(np.ones(values.shape), **window_of_all)
        return uniform_filter(values.astype("float64"), **window_of_all) / inside

    centred = x - mean(x)
    expected = centred / np.sqrt(mean(centred**2))
    np.testing.assert_allclose(numpy_of(LocalNormalization(window)(x)), expected, atol=2e-4)


def test_normalised_image_has_zero_mean_and_unit_variance_whatever_the_light() -> None:
    x = noise(1, 60, 80, 3, seed=1)
    light = np.linspace(0.5, 2, 80, dtype="float32")[:, None]
    plain, lit = (numpy_of(LocalNormalization()(image)) for image in (x, x * light + light))
    for found in (plain, lit):
        windows = np.lib.stride_tricks.sliding_window_view(found[0], (15, 15), axis=(0, 1))
        assert np.abs(windows.mean((-2, -1))).max() < 0.2
        assert np.abs(windows.std((-2, -1)) - 1).max() < 0.2
    assert np.corrcoef(plain.ravel(), lit.ravel())[0, 1] > 0.97
    np.testing.assert_allclose(numpy_of(LocalNormalization()(7 * x - 3)), plain, atol=1e-4)


def test_contrast_below_the_floor_is_not_raised_to_one() -> None:
    x = noise(1, 30, 30, 1)
    weak = numpy_of(LocalNormalization(floor=0.1)(0.001 * x))
    assert 0.005 < weak.std() < 0.015
    assert numpy_of(LocalNormalization(floor=0.1)(10 * x)).std() > 0.9


def test_gradient_is_finite_on_a_constant_image() -> None:
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradient by tf.GradientTape")
    import tensorflow as tf

    x = tf.Variable(tf.fill((1, 8, 8, 3), 0.25))
    with tf.GradientTape() as tape:
        total = sum(
            tf.reduce_sum(LocalNormalization()(level)[:, :2] ** 1) for level in LaplacianPyramid(3)(x)
        )
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_float32_in_a_mixed_policy_and_config_round_trip() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layers = [LaplacianPyramid(2), LocalNormalization((3, 5), floor=0.5)]
    finally:
        keras.config.set_dtype_policy(before)
    x = noise(1, 8, 8, 3)
    for layer in layers:
        again = type(layer).from_config(layer.get_config())
        for found, expected in zip(keras.tree.flatten(again(x)), keras.tree.flatten(layer(x)), strict=True):
            assert numpy_of(found).dtype == "float32"
            np.testing.assert_array_equal(numpy_of(found), numpy_of(expected))


def test_refuses_what_cannot_be_halved_or_averaged() -> None:
    with pytest.raises(UsageError, match=r"must be multiples of 4: .* Received: 6 x 8"):
        LaplacianPyramid(3)(keras.Input((6, 8, 3)))
    with pytest.raises(UsageError, match=r"`levels` must be a positive integer. Received: levels=0"):
        LaplacianPyramid(0)
    with pytest.raises(UsageError, match=r"`window` must be odd. Received: window=14"):
        LocalNormalization(14)
    for floor in (0, float("nan")):
        with pytest.raises(UsageError, match="`floor` must be above 0"):
            LocalNormalization(floor=floor)


def test_exports_with_known_and_unknown_sizes(run_tflite, to_onnx, run_onnx, parse_tensorrt) -> None:
    def network(size: tuple) -> keras.Model:
        image = keras.Input((*size, 3), name="image")
        levels = [LocalNormalization(5, floor=0.1)(level) for level in LaplacianPyramid(2)(image)]
        enlarged = keras.layers.UpSampling2D(2)(levels[1])
        return keras.Model(image, keras.layers.Concatenate()([levels[0], enlarged]))

    x = noise(1, 12, 20, 3)
    known, unknown = network((12, 20)), network((None, None))
    expected = numpy_of(known(x))
    np.testing.assert_allclose(numpy_of(unknown(x)), expected, atol=1e-5)
    np.testing.assert_allclose(run_tflite(known, x), expected, atol=1e-4)
    for model, shape in ((known, (1, 12, 20, 3)), (unknown, (None, None, None, 3))):
        proto = to_onnx(model, shape)
        np.testing.assert_allclose(run_onnx(proto, x), expected, atol=1e-4)
        assert parse_tensorrt(proto) == []


def test_tensorflows_own_interpreter_loads_the_normalisation() -> None:
    """Its XNNPACK is older than LiteRT's, and refuses a pooling that ends in a maximum."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("conversion needs the TensorFlow backend")
    import tensorflow as tf

    if not hasattr(tf.lite, "Interpreter"):
        pytest.skip("this TensorFlow has no TFLite interpreter any more")
    image = keras.Input((32, 40, 3), name="image")
    model = keras.Model(image, LocalNormalization()(image))
    signature = [tf.TensorSpec((1, 32, 40, 3), tf.float32, name="image")]
    function = tf.function(lambda image: model(image), input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
    x = noise(1, 32, 40, 3)
    (found,) = interpreter.get_signature_runner()(image=x).values()
    np.testing.assert_allclose(found, numpy_of(model(x)), atol=1e-5)
