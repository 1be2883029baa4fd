"""Transposed convolution: adjoint identity, sizes, bilinear kernels, what is and is not a weight."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, TransposedConv, bilinear_kernel

GRID = [(4, 2), (16, 8), (63, 32), (7, 4), (3, 2), (5, 2), (2, 3), (6, 3), (7, 3), (3, 1), (1, 1)]


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _adjoint(kernel: np.ndarray, stride: int, size: int, y: np.ndarray, padding: str) -> np.ndarray:
    """Strided per-channel convolution in numpy, of which the layer is the transpose: y -> (B, n, n, C)."""
    side = kernel.shape[0]
    start = max(side - stride, 0) // 2 if padding == "same" else 0
    full = stride * (size - 1) + max(side, stride)
    room = np.zeros((y.shape[0], full + start, full + start, y.shape[3]))
    room[:, start : start + y.shape[1], start : start + y.shape[2]] = y
    result = np.zeros((y.shape[0], size, size, y.shape[3]))
    for i in range(size):
        for j in range(size):
            window = room[:, i * stride : i * stride + side, j * stride : j * stride + side]
            result[:, i, j] = (window * kernel).sum(axis=(1, 2))
    return result


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "stride"), GRID)
def test_is_the_adjoint_of_the_strided_convolution(side, stride, padding):
    size = 4
    kernel = _random(side, side, 2)
    layer = TransposedConv(None, side, stride, padding, learnable=True)
    x = _random(1, size, size, 2, seed=1)
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    out = ops.convert_to_numpy(layer(x))
    y = _random(*out.shape, seed=2)
    left = (_adjoint(kernel, stride, size, y, padding) * x).sum()
    np.testing.assert_allclose((out * y).sum(), left, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "stride"), GRID)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_size_rule(side, stride, padding, size):
    expected = size * stride + (max(side - stride, 0) if padding == "valid" else 0)
    for layer in (TransposedConv(None, side, stride, padding), TransposedConv(3, side, stride, padding)):
        assert layer.compute_output_shape((1, size, None, 2))[1:3] == (expected, None)
        assert ops.shape(layer(np.zeros((1, size, size + 1, 2), "float32")))[1] == expected


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "stride"), GRID)
def test_three_forms_agree_on_the_bilinear_kernel(side, stride, padding):
    x = _random(2, 3, 4, 2)
    fixed, per_channel, dense = (
        ops.convert_to_numpy(layer(x))
        for layer in (
            TransposedConv(None, side, stride, padding),
            TransposedConv(None, side, stride, padding, learnable=True),
            TransposedConv(2, side, stride, padding),
        )
    )
    np.testing.assert_allclose(per_channel, dense, atol=1e-5)
    np.testing.assert_allclose(fixed, dense, atol=1e-5)


@pytest.mark.parametrize(("side", "total"), [(4, 4), (16, 64), (32, 256), (64, 1024), (63, 1024), (3, 4)])
def test_bilinear_kernel_sum(side, total):
    kernel = bilinear_kernel(side)
    assert kernel.shape == (side, side)
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel.sum(), total, rtol=1e-6)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])


def test_bilinear_kernel_values():
    np.testing.assert_allclose(bilinear_kernel((4, 3))[:, 1], [0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(bilinear_kernel((4, 3))[1], [0.375, 0.75, 0.375])


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("learnable", [False, True])
def test_reproduces_a_ramp_inside_and_matches_the_resize(factor, learnable):
    rows, columns = np.meshgrid(np.arange(6.0), np.arange(7.0), indexing="ij")
    x = (2 * rows - 3 * columns + 1)[None, :, :, None].astype("float32")
    out = ops.convert_to_numpy(TransposedConv(None, 2 * factor, factor, learnable=learnable)(x))
    at = [(np.arange(n * factor) + 0.5) / factor - 0.5 for n in (6, 7)]
    ramp = 2 * at[0][:, None] - 3 * at[1][None] + 1
    inside = slice(factor // 2, -(factor // 2))
    np.testing.assert_allclose(out[0, inside, inside, 0], ramp[inside, inside], atol=1e-5)
    resized = ops.convert_to_numpy(BilinearUpsampling(factor)(x))
    np.testing.assert_allclose(out[0, inside, inside, 0], resized[0, inside, inside, 0], atol=1e-5)


def test_even_coverage_needs_a_kernel_that_is_a_multiple_of_the_stride():
    def covered(side: int) -> np.ndarray:
        layer = TransposedConv(None, side, 2, "valid", learnable=True)
        layer.build((1, 5, 5, 1))
        layer.kernel.assign(np.ones((side, side, 1)))
        return ops.convert_to_numpy(layer(np.ones((1, 5, 5, 1), "float32")))[0, 2:-2, 2:-2, 0]

    assert set(covered(3).ravel()) == {1.0, 2.0, 4.0}
    assert set(covered(4).ravel()) == {4.0}


def test_fixed_kernel_is_not_a_weight_and_stays_fixed():
    layer = TransposedConv(None, 64, 32)
    layer(np.zeros((1, 2, 2, 21), "float32"))
    layer.trainable = True
    assert layer.weights == []
    np.testing.assert_array_equal(layer.kernel[..., 0], bilinear_kernel(64))


def test_learnable_counts():
    per_channel = TransposedConv(None, 4, 2, learnable=True)
    per_channel.build((None, None, None, 21))
    assert per_channel.count_params() == 4 * 4 * 21
    dense = TransposedConv(5, 4, 2, use_bias=True)
    dense.build((None, None, None, 21))
    assert dense.count_params() == 4 * 4 * 5 * 21 + 5
    assert len(dense.trainable_weights) == 2


def test_a_frozen_learnable_layer_is_saved_with_its_kernel(tmp_path):
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, TransposedConv(None, 4, 2, learnable=True, name="up")(inputs))
    model.get_layer("up").kernel.assign(_random(4, 4, 2))
    model.get_layer("up").trainable = False
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("up").trainable is False
    x = _random(1, 3, 5, 2)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))


def test_gradient_of_the_kernel_is_that_of_the_dense_form():
    x, target = _random(2, 4, 5, 2), _random(2, 8, 10, 2, seed=3)

    def trained(layer):
        model = keras.Sequential([keras.Input((4, 5, 2)), layer])
        model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
        model.fit(x, target, batch_size=2, verbose=0)
        return ops.convert_to_numpy(layer.kernel)

    dense = trained(TransposedConv(2, 4, 2))
    per_channel = trained(TransposedConv(None, 4, 2, learnable=True))
    np.testing.assert_allclose(per_channel, np.einsum("ijcc->ijc", dense), atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": "full"},
        {"kernel_size": 0},
        {"strides": (1, 2, 3)},
        {"filters": -1},
        {"use_bias": True},
        {"bilinear": False},
        {"filters": 3, "learnable": False},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(UsageError, match="Received"):
        TransposedConv(**arguments)
