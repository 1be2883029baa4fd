"""Every kind of layer on TFLite builtins, ONNX Runtime and TensorRT's parser, sizes known or unknown."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg import layers


def _switches(x):
    pooled, switches = layers.MaxPoolWithSwitches(2)(x)
    return layers.Unpool(2)([pooled, switches])


def _soft_switches(x):
    pooled, switches = layers.MaxPoolWithSwitches(2, temperature=0.25)(x)
    return layers.Unpool(2)([pooled, switches])


def _pad_and_crop(x):
    padded = layers.PadToStride(16)(x)
    return layers.CropLike()([padded, x])


KINDS = {
    "pad_and_crop": _pad_and_crop,
    "crop_with_offset": lambda x: layers.CropLike(offset=3)(
        [x, keras.layers.AveragePooling2D(3, 2, padding="valid")(x)]
    ),
    "bilinear": layers.BilinearUpsampling((2, 3)),
    "resize_like": lambda x: layers.ResizeLike()([keras.layers.AveragePooling2D(2)(x), x]),
    "transposed_fixed_same": layers.TransposedConv(None, 8, 4),
    "transposed_fixed_valid": layers.TransposedConv(None, 4, 2, "valid"),
    "transposed_fixed_odd_kernel": layers.TransposedConv(None, 7, 4, "valid"),
    "transposed_per_channel": layers.TransposedConv(None, 4, 2, learnable=True, bilinear=False),
    "transposed_dense": layers.TransposedConv(5, 4, 2, use_bias=True),
    "hard_switches": _switches,
    "soft_switches": _soft_switches,
    "corner_unpool": layers.Unpool(2),
    "ceil_pool": layers.CeilMaxPooling2D(3, 2),
    "grouped": layers.GroupedConv2D(6, 3, groups=3, padding="same", activation="relu"),
    "lrn": layers.LocalResponseNormalization(alpha=1.0),
    "scale": layers.FixedScale(0.01),
    "batch_normalization": layers.BatchNormalization(),
}


def _model(kind: str, shape: tuple) -> keras.Model:
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, KINDS[kind](inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_known_sizes_on_three_runtimes(kind, run_tflite, to_onnx, run_onnx, parse_tensorrt):
    model = _model(kind, (10, 14, 3))
    x = np.random.default_rng(0).normal(size=(1, 10, 14, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)
    proto = to_onnx(model, (1, 10, 14, 3))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    assert parse_tensorrt(proto) == []


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_sizes_on_onnx(kind, to_onnx, run_onnx, parse_tensorrt):
    model = _model(kind, (None, None, 3))
    proto = to_onnx(model, (None, None, None, 3))
    for shape in ((2, 10, 14, 3), (1, 18, 12, 3)):
        x = np.random.default_rng(1).normal(size=shape).astype("float32")
        np.testing.assert_allclose(run_onnx(proto, x), keras.ops.convert_to_numpy(model(x)), atol=2e-5)
    assert parse_tensorrt(proto) == []
