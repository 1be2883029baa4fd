"""Transposed convolution: adjoint identity, sizes, bilinear kernels, what is and is not a weight."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, TransposedConv, bilinear_kernel

GRID = [(4, 2), (16, 8), (63, 32), (7, 4), (3, 2), (5, 2), (2, 3), (6, 3), (7, 3), (3, 1), (1, 1)]


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _by_zero_insertion(
    x: np.ndarray, kernel: np.ndarray, stride: int, padding: int, output_padding: int
) -> np.ndarray:
    """The definition: s - 1 zeros between inputs, a border of k - 1 - p, the flipped kernel (k, k, N, C)."""
    side, (_, size, _, channels) = kernel.shape[0], x.shape
    spread = np.zeros((x.shape[0], stride * (size - 1) + 1, stride * (size - 1) + 1, channels))
    spread[:, ::stride, ::stride] = x
    border = side - 1 - padding
    room = np.pad(spread, ((0, 0), *[(border, border + output_padding)] * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(room, (side, side), axis=(1, 2))
    return np.einsum("bhwcij,ijnc->bhwn", windows, kernel[::-1, ::-1])


def _convolution(x: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Strided convolution of (B, o, o, N) with (k, k, N, C) and a border of p zeros: what is transposed."""
    room = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    side = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(room, (side, side), axis=(1, 2))
    return np.einsum("bhwnij,ijnc->bhwc", windows[:, ::stride, ::stride], kernel)


def _both_forms(kernel: np.ndarray, stride: int, **sizes: Any) -> list[TransposedConv]:
    """The ordinary layer with `kernel` (k, k, N, C), and the one per channel with its diagonal."""
    side, channels = kernel.shape[0], kernel.shape[-1]
    layers = [
        TransposedConv(kernel.shape[2], side, stride, **sizes),
        TransposedConv(None, side, stride, learnable=True, **sizes),
    ]
    for layer, values in zip(layers, (kernel, np.einsum("ijcc->ijc", kernel)), strict=True):
        layer.build((None, None, None, channels))
        layer.kernel.assign(values)
    return layers


def _explicit(side: int, stride: int, size: int) -> list[tuple[int, int]]:
    """Every explicit padding and output padding with which `size` inputs leave a result."""
    return [
        (padding, further)
        for padding in range(side)
        for further in range(stride)
        if stride * (size - 1) + side - 2 * padding + further > 0
    ]


EXPLICIT = [(1, 1), (3, 1), (4, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (2, 3), (5, 3), (6, 3), (8, 4)]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("side", "stride"), EXPLICIT)
def test_explicit_padding_has_the_size_and_the_values_of_the_definition(side, stride, size):
    kernel = _random(side, side, 2, 2)
    diagonal = kernel * np.eye(2, dtype="float32")
    x = _random(2, size, size, 2, seed=1)
    for padding, further in _explicit(side, stride, size):
        sizes = {"padding": padding, "output_padding": further}
        expected = stride * (size - 1) + side - 2 * padding + further
        dense, per_channel = _both_forms(kernel, stride, **sizes)
        for layer, values in ((dense, kernel), (per_channel, diagonal)):
            assert layer.compute_output_shape((2, size, None, 2)) == (2, expected, None, 2)
            out = ops.convert_to_numpy(layer(x))
            assert out.shape == (2, expected, expected, 2)
            reference = _by_zero_insertion(x, values, stride, padding, further)
            np.testing.assert_allclose(out, reference, atol=1e-5, err_msg=str(sizes))


@pytest.mark.parametrize(("side", "stride"), [*EXPLICIT, (16, 8), (15, 8)])
def test_fixed_kernel_follows_every_explicit_padding(side, stride):
    x = _random(1, 3, 3, 2)
    kernel = bilinear_kernel(side)[..., None, None] * np.eye(2)
    for padding, further in _explicit(side, stride, 3)[:: 1 if side < 9 else 5]:
        out = TransposedConv(None, side, stride, padding, output_padding=further)(x)
        reference = _by_zero_insertion(x, kernel, stride, padding, further)
        np.testing.assert_allclose(
            ops.convert_to_numpy(out), reference, atol=1e-5, err_msg=f"{padding} {further}"
        )


@pytest.mark.parametrize(("side", "stride"), [*EXPLICIT, (63, 32), (64, 32)])
def test_adjoint_identity_in_every_explicit_rule(side, stride):
    size, kernel = 3, _random(side, side, 2, 3)
    y = _random(2, size, size, 3, seed=1)
    for padding, further in _explicit(side, stride, size)[:: 1 if side < 9 else 401]:
        layer = TransposedConv(2, side, stride, padding, output_padding=further)
        layer.build(y.shape)
        layer.kernel.assign(kernel)
        transposed = ops.convert_to_numpy(layer(y)).astype("float64")
        x = _random(*transposed.shape, seed=2).astype("float64")
        forward = _convolution(x, kernel.astype("float64"), stride, padding)
        assert forward.shape == y.shape
        scale = np.linalg.norm(forward) * np.linalg.norm(y)
        assert abs((forward * y).sum() - (x * transposed).sum()) <= 1e-5 * scale


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("side", "stride"), [(4, 2), (3, 2), (5, 3), (2, 3), (7, 4)])
def test_output_padding_by_keras_rules(padding, side, stride):
    kernel, x = _random(side, side, 2, 2), _random(1, 3, 4, 2, seed=1)
    # An even kernel without output padding, "same", is s (n - 1) long: TensorFlow's kernel refuses it.
    first = 1 if padding == "same" and side % 2 == 0 else 0
    for further in range(first, stride):
        theirs = keras.layers.Conv2DTranspose(
            2, side, stride, padding, output_padding=further, use_bias=False
        )
        theirs.build(x.shape)
        theirs.kernel.assign(kernel)
        ours = _both_forms(kernel, stride, padding=padding, output_padding=further)[0]
        np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), atol=1e-5)


def test_rules_may_differ_between_height_and_width():
    layer = TransposedConv(3, (3, 4), (2, 3), padding=(1, 0), output_padding=(1, 2))
    assert layer.compute_output_shape((None, 5, 5, 2)) == (None, 10, 18, 3)
    assert layer(np.zeros((1, 5, 5, 2), "float32")).shape == (1, 10, 18, 3)
    again = TransposedConv.from_config(layer.get_config())
    assert again.rules == layer.rules


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_odd_kernel_of_a_factor_keeps_the_inputs_and_fills_between_them(factor):
    ramp = (3 * np.arange(5.0)[:, None] - np.arange(5.0) + 2)[None, :, :, None].astype("float32")
    out = TransposedConv(None, 2 * factor - 1, factor, padding=factor - 1)(ramp)
    fine = np.arange(4 * factor + 1) / factor
    np.testing.assert_allclose(ops.convert_to_numpy(out)[0, ..., 0], 3 * fine[:, None] - fine + 2, atol=1e-5)


@pytest.mark.parametrize("filters", [None, 2])
def test_explicit_padding_on_three_runtimes(filters, run_tflite, to_onnx, run_onnx, parse_tensorrt):
    image = keras.Input((6, 5, 3), name="image")
    layer = TransposedConv(filters, 5, 2, padding=2, output_padding=1, learnable=True, bilinear=False)
    model = keras.Model(image, layer(image))
    x = _random(1, 6, 5, 3)
    expected = ops.convert_to_numpy(model(x))
    assert expected.shape[1:3] == (12, 10)
    np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)
    proto = to_onnx(model, (1, 6, 5, 3))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    assert parse_tensorrt(proto) == []


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
    x = _random(1, size, size, 2, seed=1)
    # The second form has a kernel for each pair of channels; here those that mix have zeros.
    mixing = kernel[..., None] * np.eye(2, dtype="float32")
    for filters, values in ((None, kernel), (2, mixing)):
        layer = TransposedConv(filters, side, stride, padding, learnable=True)
        layer.build(x.shape)
        layer.kernel.assign(values)
        out = ops.convert_to_numpy(layer(x)).astype("float64")
        y = _random(*out.shape, seed=2)
        forward = _adjoint(kernel, stride, size, y, padding).astype("float64")
        scale = np.linalg.norm(forward) * np.linalg.norm(x)
        assert abs((out * y).sum() - (forward * x).sum()) <= 1e-5 * scale


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
        {"padding": 4},
        {"padding": -1},
        {"output_padding": 2},
        {"output_padding": (0, -1)},
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


def test_an_input_of_which_nothing_is_left_is_refused():
    layer = TransposedConv(None, 4, 2, padding=3)
    with pytest.raises(UsageError, match=r"0 outputs left .* Received an input of size 2"):
        layer.compute_output_shape((1, 2, 9, 1))
