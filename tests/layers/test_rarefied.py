"""Filters spread out at call time, mirrored borders, shift-and-stitch: numbers, sizes, runtimes, errors."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import (
    MirrorBorder,
    RarefiedConv2D,
    RarefiedMaxPooling2D,
    ShiftToBatch,
    StitchFromBatch,
    Subsample,
)


def _image(height: int, width: int, channels: int = 3, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(batch, height, width, channels)).astype("float32")


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_rarefied_convolution_is_the_dilated_one(rate):
    x = _image(13, 12)
    layer = RarefiedConv2D(4, (3, 2), activation="tanh")
    symbolic = layer(keras.Input((None, 12, 3)), rate=rate)
    layer.bias.assign([0.5, -1.0, 2.0, 0.0])
    twin = keras.layers.Conv2D(4, (3, 2), dilation_rate=rate, activation="tanh")
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    found = ops.convert_to_numpy(layer(x, rate=rate))
    assert symbolic.shape == (None, None, *found.shape[2:])
    np.testing.assert_allclose(found, ops.convert_to_numpy(twin(x)), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "call"),
    [
        (2, {}),
        (3, {"rate": 2}),
        (2, {"dense": True}),
        (3, {"dense": True, "rate": 2}),
        (5, {"dense": True, "rate": 2, "step": 2}),
        (4, {"dense": True, "step": 3}),
        ((3, 1), {"dense": True, "rate": 3}),
    ],
)
def test_pooling_is_the_maximum_over_its_window(size, call):
    x = _image(17, 19, 2)
    layer = RarefiedMaxPooling2D(size)
    found = ops.convert_to_numpy(layer(x, **call))
    height, width = layer.pool_size
    rate = call.get("rate", 1)
    steps = (call.get("step", 1),) * 2 if call.get("dense") else layer.pool_size
    reach = ((height - 1) * rate + 1, (width - 1) * rate + 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    windows = windows[:, :: steps[0], :: steps[1], :, ::rate, ::rate]
    np.testing.assert_array_equal(found, windows.max(axis=(-2, -1)))
    assert layer(keras.Input((17, 19, 2)), **call).shape == (None, *found.shape[1:])
    assert layer(keras.Input((None, None, 2)), **call).shape == (None, None, None, 2)


def test_one_layer_keeps_its_calls_in_a_file(tmp_path):
    image = keras.Input((None, None, 3))
    conv, pool = RarefiedConv2D(4, 3), RarefiedMaxPooling2D(2)
    strided = pool(conv(image))
    dense = conv(pool(conv(image, rate=2), rate=2, dense=True)[..., :3], rate=3)
    model = keras.Model(image, [strided, dense])
    model.save(tmp_path / "shared.keras")
    again = keras.saving.load_model(tmp_path / "shared.keras")
    assert len(again.weights) == 2
    for mine, theirs in zip(model(_image(20, 21)), again(_image(20, 21)), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs))


def test_layers_follow_the_dtype_policy():
    x = _image(9, 9)
    conv = RarefiedConv2D(2, 3, dtype="mixed_bfloat16")
    out = RarefiedMaxPooling2D(2, dtype="mixed_bfloat16")(conv(x, rate=2), rate=2, dense=True)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    symbolic = conv(keras.Input((9, 9, 3)), rate=2)
    assert symbolic.dtype == "bfloat16"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 30), (31, 12)])
def test_mirror_border_is_numpys_reflection(size, known):
    image = keras.Input((*size, 2) if known else (None, None, 2))
    out = MirrorBorder((11, 3), (9, 0), 4)(image)
    x = _image(*size, 2)
    found = keras.Model(image, out).predict(x, verbose=0)
    bottom, right = 9 + -size[0] % 4, -size[1] % 4
    expected = np.pad(x, ((0, 0), (11, bottom), (3, right), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(found, expected)
    assert out.shape == (None, *(expected.shape[1:3] if known else (None, None)), 2)


@pytest.mark.parametrize("batch", [1, 2])
def test_stitching_undoes_shifting(batch):
    x = _image(10, 13, 2, batch)
    crops = ops.convert_to_numpy(ShiftToBatch(3, 2)(x))
    assert crops.shape == (9 * batch, 6, 9, 2)
    for i in range(3):
        for j in range(3):
            first = (j * 3 + i) * batch
            np.testing.assert_array_equal(
                crops[first : first + batch], x[:, 2 * i : 2 * i + 6, 2 * j : 2 * j + 9]
            )
    taken = crops[:, ::6, ::6]
    stitched = ops.convert_to_numpy(StitchFromBatch(3)(taken))
    np.testing.assert_array_equal(stitched, x[:, :6:2, :12:2][:, :3, :6])


def test_subsample_takes_the_centres():
    x = _image(11, 14)
    np.testing.assert_array_equal(ops.convert_to_numpy(Subsample(3, 2)(x)), x[:, 2::3, 2::3])
    like = np.zeros((1, 2, 3, 5), "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(Subsample(3, 2)([x, like])), x[:, 2:8:3, 2:11:3])
    assert Subsample(3, 2)(keras.Input((11, 14, 3))).shape == (None, 3, 4, 3)
    assert Subsample(3)([keras.Input((11, 14, 3)), keras.Input((2, None, 7))]).shape == (None, 2, None, 3)


def _rarefied(x):
    x = RarefiedConv2D(4, 3, activation="relu")(x, rate=2)
    x = RarefiedMaxPooling2D(2)(x, rate=2, dense=True, step=2)
    return RarefiedMaxPooling2D(2)(x, dense=True)


def _stitched(x):
    shifted = ShiftToBatch(2)(MirrorBorder(20, 21, 2)(x))
    return StitchFromBatch(2)(RarefiedMaxPooling2D(2)(RarefiedConv2D(4, 3)(shifted)))


KINDS = {
    "rarefied": _rarefied,
    "mirror": MirrorBorder(5, 6, 4),
    "mirror_again_and_again": MirrorBorder(31, 28, 4),
    "shift_and_stitch": _stitched,
    "subsample": lambda x: Subsample(2, 1)([x, keras.layers.AveragePooling2D(3)(x)]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_three_runtimes(kind, known, run_tflite, to_onnx, run_onnx, parse_tensorrt):
    image = keras.Input((10, 14, 3) if known else (None, None, 3), name="image")
    model = keras.Model(image, KINDS[kind](image))
    inputs = [_image(10, 14)]
    if known:
        np.testing.assert_allclose(
            run_tflite(model, inputs[0]), ops.convert_to_numpy(model(inputs[0])), atol=1e-5
        )
    else:
        inputs.append(_image(19, 16, batch=2))
    proto = to_onnx(model, (1 if known else None, *image.shape[1:]))
    for x in inputs:
        np.testing.assert_allclose(run_onnx(proto, x), ops.convert_to_numpy(model(x)), atol=1e-5)
    assert parse_tensorrt(proto) == []


@pytest.mark.parametrize(
    "layer",
    [
        RarefiedConv2D(4, 3, activation="relu", use_bias=False),
        RarefiedMaxPooling2D((2, 3)),
        MirrorBorder((1, 2), 3, 4),
        ShiftToBatch(3, 2),
        StitchFromBatch(3),
        Subsample(2, 5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RarefiedConv2D(4, 3, strides=2), "stride 1"),
        (lambda: RarefiedConv2D(4, 3, padding="same"), "padding='same'"),
        (lambda: RarefiedConv2D(4, 3)(np.zeros((1, 8, 8, 3)), rate=0), "`rate` must be a positive integer"),
        (lambda: RarefiedConv2D(4, 3)(keras.Input((9, 6, 3)), rate=3), r"reaches over 7 x 7.*9, 6, 3"),
        (lambda: RarefiedMaxPooling2D(0), "pool_size"),
        (lambda: RarefiedMaxPooling2D(4)(keras.Input((9, 3, 3))), "reaches over 4 x 4"),
        (lambda: RarefiedMaxPooling2D(2)(keras.Input((9, 9, 3)), dense=True, step=0), "`step`"),
        (lambda: MirrorBorder(-1, 3), "before"),
        (lambda: ShiftToBatch((2, 3)), "`shifts` must be a positive integer"),
        (lambda: ShiftToBatch(4, 3)(keras.Input((9, 20, 3))), "up to 9 pixels"),
    ],
)
def test_wrong_use_is_named(make, said):
    with pytest.raises(UsageError, match=said):
        make()
