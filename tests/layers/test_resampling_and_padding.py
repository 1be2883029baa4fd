"""Padding, cropping, bilinear enlargement, fixed scale, grouped convolution and LRN."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg import layers
from kseg.errors import UsageError


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (32, 64), (37, 45), (31, 97)])
@pytest.mark.parametrize("known", [True, False])
def test_pad_then_crop_is_the_identity(size, known):
    inputs = keras.Input((*size, 2) if known else (None, None, 2))
    padded = layers.PadToStride((32, 16))(inputs)
    model = keras.Model(inputs, [padded, layers.CropLike()([padded, inputs])])
    x = np.random.default_rng(0).normal(size=(2, *size, 2)).astype("float32")
    big, back = model.predict(x, verbose=0)
    expected = (-(-size[0] // 32) * 32, -(-size[1] // 16) * 16)
    assert big.shape[1:3] == expected
    assert tuple(padded.shape[1:3]) == (expected if known else (None, None))
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(big[:, size[0] :], 0)
    np.testing.assert_array_equal(big[:, :, size[1] :], 0)


MINIMUM = {(10, 100): (64, 112), (64, 16): (64, 96), (65, 96): (96, 96), (1, 1): (64, 96)}


@pytest.mark.parametrize("size", MINIMUM)
def test_small_images_are_padded_to_the_minimum(size):
    # 50 and 90 are no multiples of the stride: the next ones count.
    layer = layers.PadToStride((32, 16), minimum=(50, 90))
    assert layer(keras.Input((*size, 2))).shape == (None, *MINIMUM[size], 2)
    x = np.random.default_rng(0).normal(size=(1, *size, 2)).astype("float32")
    big = ops.convert_to_numpy(layer(x))
    assert big.shape == (1, *MINIMUM[size], 2)
    np.testing.assert_array_equal(big[:, : size[0], : size[1]], x)
    assert np.count_nonzero(big) == x.size


def test_the_minimum_holds_where_the_size_is_known_only_at_run_time():
    tf = pytest.importorskip("tensorflow")
    layer = layers.PadToStride((32, 16), minimum=(50, 90))
    assert layer(keras.Input((None, None, 2))).shape == (None, None, None, 2)
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 2))])
    for size, expected in MINIMUM.items():
        assert run(tf.ones((1, *size, 2))).shape == (1, *expected, 2)
    assert run.experimental_get_tracing_count() == 1


def test_padding_without_minimum_has_the_configuration_that_older_files_have():
    config = layers.PadToStride(32, name="pad").get_config()
    assert "minimum" not in config
    again = layers.PadToStride.from_config(layers.PadToStride(32, minimum=96).get_config())
    assert again.minimum == (96, 96)


def test_crop_offset():
    x = np.arange(48, dtype="float32").reshape(1, 6, 8, 1)
    out = ops.convert_to_numpy(layers.CropLike((1, 2))([x, np.zeros((1, 3, 4, 7), "float32")]))
    np.testing.assert_array_equal(out, x[:, 1:4, 2:6])


@pytest.mark.parametrize("known", [True, False])
def test_bilinear_has_half_pixel_centres_and_keeps_the_dtype(known):
    inputs = keras.Input((2, 1, 1) if known else (None, None, 1))
    model = keras.Model(inputs, layers.BilinearUpsampling((2, 3))(inputs))
    out = model.predict(np.array([0.0, 1.0], "float32").reshape(1, 2, 1, 1), verbose=0)
    np.testing.assert_allclose(out[0, :, 0, 0], [0, 0.25, 0.75, 1])
    assert out.shape == (1, 4, 3, 1)
    half = layers.BilinearUpsampling(2, dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(half(np.ones((1, 2, 2, 1), "float32")).dtype) == "bfloat16"


def test_resize_like_agrees_with_the_factor():
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 2)).astype("float32")
    like = np.zeros((1, 12, 16, 5), "float32")
    out = ops.convert_to_numpy(layers.ResizeLike()([x, like]))
    np.testing.assert_allclose(out, ops.convert_to_numpy(layers.BilinearUpsampling(4)(x)), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn_is_the_definition(size):
    x = np.random.default_rng(2).normal(scale=9, size=(2, 3, 3, 7)).astype("float32")
    layer = layers.LocalResponseNormalization(size=size, alpha=0.3, beta=0.75, bias=2.0)
    expected = np.empty_like(x)
    for channel in range(7):
        low, high = max(0, channel - size // 2), channel + size // 2 + 1
        total = (x[..., low:high].astype("float64") ** 2).sum(-1)
        expected[..., channel] = x[..., channel] / (2.0 + 0.3 / size * total) ** 0.75
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5)


def test_lrn_does_not_overflow_float16():
    layer = layers.LocalResponseNormalization(dtype="mixed_float16")
    out = ops.convert_to_numpy(layer(np.full((1, 1, 1, 8), 1000.0, "float32")))
    expected = 1000 / (1 + 1e-4 / 5 * 5 * 1e6) ** 0.75
    np.testing.assert_allclose(out[0, 0, 0, 4], expected, rtol=2e-3)


def test_grouped_convolution_is_keras_grouped_convolution():
    x = np.random.default_rng(3).normal(size=(2, 9, 8, 6)).astype("float32")
    arguments = {"filters": 8, "kernel_size": 3, "strides": 2, "groups": 2, "activation": "relu"}
    ours, theirs = layers.GroupedConv2D(**arguments), keras.layers.Conv2D(**arguments)
    ours.build(x.shape)
    theirs.build(x.shape)
    ours.bias.assign(np.linspace(-1, 1, 8))
    theirs.set_weights(ours.get_weights())
    expected = np.concatenate(
        [
            ops.convert_to_numpy(ops.conv(x[..., i : i + 3], theirs.kernel[..., k : k + 4], 2))
            for i, k in ((0, 0), (3, 4))
        ],
        axis=-1,
    )
    expected = np.maximum(expected + np.linspace(-1, 1, 8, dtype="float32"), 0)
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), expected, atol=1e-5)
    assert theirs.count_params() == ours.count_params()


@pytest.mark.parametrize(
    "layer",
    [
        layers.PadToStride(32),
        layers.PadToStride(32, minimum=(96, 224)),
        layers.CropLike(5),
        layers.PickOutput(1),
        layers.BilinearUpsampling((2, 4)),
        layers.ResizeLike(),
        layers.TransposedConv(None, 4, 2, learnable=True),
        layers.MaxPoolWithSwitches(2, temperature=0.25),
        layers.Unpool(2),
        layers.CeilMaxPooling2D(3, 2),
        layers.GroupedConv2D(4, 3, groups=2),
        layers.LocalResponseNormalization(size=3),
        layers.FixedScale(0.01),
        layers.BatchNormalization(momentum=0.9),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"kseg>{type(layer).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.PadToStride(0),
        lambda: layers.PadToStride(2.5),
        lambda: layers.PadToStride(32, minimum=0),
        lambda: layers.CropLike(-1),
        lambda: layers.LocalResponseNormalization(size=4),
        lambda: layers.CeilMaxPooling2D(2, 3),
    ],
)
def test_wrong_arguments_are_named(make):
    with pytest.raises(UsageError, match="Received"):
        make()
