"""Pooling with switches against a numpy arg-max; unpooling; Caffe's pooling size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.errors import UsageError
from kseg.layers import CeilMaxPooling2D, MaxPoolWithSwitches, Unpool


def _reference(x: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pooled values and one-hot switches by numpy's arg-max, which takes the first of equal values."""
    batch, height, width, channels = x.shape
    rows, columns = size
    windows = x.reshape(batch, height // rows, rows, width // columns, columns, channels)
    flat = windows.transpose(0, 1, 3, 5, 2, 4).reshape(
        batch, height // rows, width // columns, channels, rows * columns
    )
    onehot = np.eye(rows * columns, dtype=x.dtype)[flat.argmax(-1)]
    onehot = onehot.reshape(*flat.shape[:4], rows, columns).transpose(0, 1, 4, 2, 5, 3)
    return flat.max(-1), onehot.reshape(x.shape)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_numpy_bit_for_bit(size, ties):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 12, 8, 5)).astype("float32")
    if ties:
        x = rng.integers(-1, 2, size=x.shape).astype("float32")
    pooled, switches = (ops.convert_to_numpy(t) for t in MaxPoolWithSwitches(size)(x))
    expected_pooled, expected_switches = _reference(x, size)
    np.testing.assert_array_equal(pooled, expected_pooled)
    np.testing.assert_array_equal(switches, expected_switches)
    unpooled = ops.convert_to_numpy(Unpool(size)([pooled, switches]))
    np.testing.assert_array_equal(unpooled, x * expected_switches)


def test_unpooled_image_keeps_one_value_per_window():
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype("float32")
    unpooled = ops.convert_to_numpy(Unpool(2)(list(MaxPoolWithSwitches(2)(x))))
    assert np.count_nonzero(unpooled) == x.size // 4


def test_corner_unpooling():
    x = np.arange(1, 13, dtype="float32").reshape(1, 2, 3, 2)
    unpooled = ops.convert_to_numpy(Unpool((2, 3))(x))
    assert unpooled.shape == (1, 4, 9, 2)
    np.testing.assert_array_equal(unpooled[:, ::2, ::3], x)
    assert np.count_nonzero(unpooled) == x.size


def test_soft_switches_sum_to_one_and_approach_hard_ones():
    x = np.random.default_rng(2).normal(size=(1, 6, 6, 4)).astype("float32")
    _, soft = MaxPoolWithSwitches(2, temperature=0.25)(x)
    soft = ops.convert_to_numpy(soft)
    sums = soft.reshape(1, 3, 2, 3, 2, 4).sum(axis=(2, 4))
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    window, weights = x[0, :2, :2, 0].ravel(), soft[0, :2, :2, 0].ravel()
    expected = np.exp((window - window.max()) / 0.25)
    np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-6)
    _, sharp = MaxPoolWithSwitches(2, temperature=1e-4)(x)
    _, hard = MaxPoolWithSwitches(2)(x)
    np.testing.assert_allclose(ops.convert_to_numpy(sharp), ops.convert_to_numpy(hard), atol=1e-3)


@pytest.mark.parametrize("size", [(2, 2), (1, 3)])
def test_pooling_again_brings_back_what_was_unpooled(size):
    x = np.abs(np.random.default_rng(5).normal(size=(2, 4, 6, 3))).astype("float32")
    pooled, switches = MaxPoolWithSwitches(size)(x)
    again, same = MaxPoolWithSwitches(size)(Unpool(size)([pooled, switches]))
    np.testing.assert_array_equal(ops.convert_to_numpy(again), ops.convert_to_numpy(pooled))
    np.testing.assert_array_equal(ops.convert_to_numpy(same), ops.convert_to_numpy(switches))


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_windows_of_equal_values(temperature):
    # After ReLU a third of all windows are empty: every runtime must choose the same place for them.
    _, switches = MaxPoolWithSwitches(2, temperature=temperature)(np.zeros((1, 2, 2, 1), "float32"))
    expected = [1, 0, 0, 0] if temperature is None else [0.25] * 4
    np.testing.assert_array_equal(ops.convert_to_numpy(switches).ravel(), expected)


def test_hard_switches_pass_no_gradient_and_soft_ones_do():
    tf = pytest.importorskip("tensorflow")
    x = tf.constant(np.random.default_rng(6).normal(size=(1, 4, 4, 2)).astype("float32"))
    weights = np.random.default_rng(7).normal(size=(1, 4, 4, 2)).astype("float32")
    coarse = np.ones((1, 2, 2, 2), "float32")
    found = {}
    for temperature in (None, 0.5):
        layer, unpool = MaxPoolWithSwitches(2, temperature), Unpool(2)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(unpool([coarse, layer(x)[1]]) * weights)
        found[temperature] = tape.gradient(total, x)
    assert found[None] is None or not np.any(found[None])
    # Softmax: the gradients within a window sum to zero, and are not all zero.
    sums = np.asarray(found[0.5]).reshape(2, 2, 2, 2, 2).sum((1, 3))
    np.testing.assert_allclose(sums, 0, atol=1e-5)
    assert np.abs(found[0.5]).max() > 0.01


def test_the_gradient_of_unpooling_is_what_stands_at_the_switches():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(8)
    switches = MaxPoolWithSwitches(2)(rng.normal(size=(1, 4, 6, 2)).astype("float32"))[1]
    x, weights = tf.constant(np.ones((1, 2, 3, 2), "float32")), rng.normal(size=(1, 4, 6, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(Unpool(2)([x, switches]) * weights.astype("float32"))
    chosen = (weights * np.asarray(switches)).reshape(1, 2, 2, 3, 2, 2).sum((2, 4))
    np.testing.assert_allclose(tape.gradient(total, x), chosen, rtol=1e-5)


def test_unknown_sizes_save_and_load(tmp_path):
    inputs = keras.Input((None, None, 3))
    pooled, switches = MaxPoolWithSwitches(2)(inputs)
    model = keras.Model(inputs, Unpool(2)([pooled, switches]))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for shape in ((1, 4, 6, 3), (2, 8, 2, 3)):
        x = np.random.default_rng(3).normal(size=shape).astype("float32")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), x * _reference(x, (2, 2))[1])


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(UsageError, match="PadToStride"):
        MaxPoolWithSwitches(2)(keras.Input((5, 4, 1)))
    with pytest.raises(UsageError, match="temperature"):
        MaxPoolWithSwitches(2, temperature=0.0)


@pytest.mark.parametrize("size", [5, 6, 7, 8, 86, 173])
@pytest.mark.parametrize(("pool", "stride"), [(3, 2), (2, 2), (3, 3), (5, 2)])
def test_ceil_pooling_is_caffes(size, pool, stride):
    x = np.random.default_rng(4).normal(size=(1, size, size + 1, 1)).astype("float32")
    layer = CeilMaxPooling2D(pool, stride)
    out = ops.convert_to_numpy(layer(x))
    assert out.shape == layer.compute_output_shape(x.shape)
    starts = [range(0, -(-(n - pool) // stride) * stride + 1, stride) for n in x.shape[1:3]]
    expected = [[x[0, i : i + pool, j : j + pool, 0].max() for j in starts[1]] for i in starts[0]]
    np.testing.assert_array_equal(out[0, :, :, 0], expected)
