"""Convolution over a connection table: the table, weights and numbers; in files, one plain convolution."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.layers import ConnectionTableConv2D

RAGGED = [[2], [0, 1, 3], [1, 2], [3], [0, 2, 3]]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def numpy_of(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def built(inputs: int = 4, **kwargs) -> ConnectionTableConv2D:
    layer = ConnectionTableConv2D(**{"filters": 6, "kernel_size": 3, **kwargs})
    layer.build((None, None, None, inputs))
    return layer


def connected(layer: ConnectionTableConv2D) -> list[list[int]]:
    """The table, read from the dense kernel: which inputs of each output have a weight that is not 0."""
    used = (numpy_of(layer.kernel) != 0).any((0, 1))
    return [np.flatnonzero(column).tolist() for column in used.T]


def test_every_output_sees_fan_in_inputs_and_only_those_have_weights() -> None:
    layer = built(16, filters=64, kernel_size=7, fan_in=8, seed=3)
    assert numpy_of(layer.kernel).shape == (7, 7, 16, 64)
    assert connected(layer) == layer.table
    assert {len(row) for row in layer.table} == {8}
    assert layer.count_params() == 64 * 8 * 49 + 64
    assert (numpy_of(layer.kernel) != 0).sum() == 64 * 8 * 49


def test_table_depends_on_the_seed_and_never_changes() -> None:
    tables = [built(8, filters=32, fan_in=4, seed=seed).table for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]
    assert len({tuple(row) for row in tables[0]}) > 16  # drawn for each output on its own
    # Files keep the seed, not the table: these rows must stay what they are.
    assert tables[0][:3] == [[1, 2, 6, 7], [1, 3, 6, 7], [2, 3, 4, 5]]


@pytest.mark.parametrize(
    "form", [{}, {"padding": "same", "activation": "tanh"}, {"strides": 2, "use_bias": False}]
)
def test_computes_what_a_dense_convolution_with_zeros_computes(form: dict) -> None:
    layer = built(filters=5, table=RAGGED, bias_initializer="normal", **form)
    dense = keras.layers.Conv2D(5, 3, **form)
    dense.build((None, None, None, 4))
    dense.set_weights([numpy_of(layer.kernel), *layer.get_weights()[1:]])
    x = noise(2, 9, 11, 4)
    np.testing.assert_array_equal(numpy_of(layer(x)), numpy_of(dense(x)))


def test_rows_of_different_length_are_weights_in_order_of_the_table() -> None:
    layer = built(filters=5, kernel_size=(1, 2), table=RAGGED, use_bias=False)
    assert [w.shape for w in layer.weights] == [(10, 1, 2)]
    layer.set_weights([np.arange(1, 21, dtype="float32").reshape(10, 1, 2)])
    assert connected(layer) == RAGGED
    kernel = numpy_of(layer.kernel)
    pairs = [(index, output) for output, row in enumerate(RAGGED) for index in row]
    for number, (index, output) in enumerate(pairs):
        np.testing.assert_array_equal(kernel[0, :, index, output], [2 * number + 1, 2 * number + 2])


def test_initial_weights_have_the_variance_of_their_own_fan_in() -> None:
    table = [[0], [0, 1, 2, 3]] * 200
    layer = built(filters=400, kernel_size=5, table=table)
    kernel = numpy_of(layer.kernel)
    for start, fan in ((0, 1), (1, 4)):
        values = kernel[..., start::2][kernel[..., start::2] != 0]
        assert values.size == 200 * fan * 25
        assert np.abs(values).max() <= np.sqrt(3 / (25 * fan))
        np.testing.assert_allclose(values.std(), 1 / np.sqrt(25 * fan), rtol=0.03)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    ],
)
def test_training_moves_connections_and_nothing_else(optimizer) -> None:
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 4))
    layer = ConnectionTableConv2D(6, 3, fan_in=2, seed=5, activation="tanh", kernel_regularizer="l2")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer(image)))
    before = numpy_of(layer.kernel)
    model.compile(optimizer(), "mse")
    history = model.fit(noise(16, 8, 8, 4), noise(16, 6, seed=1), epochs=5, verbose=0).history["loss"]
    after = numpy_of(layer.kernel)
    assert history[-1] < history[0]
    assert connected(layer) == layer.table
    assert (before == 0).sum() == (after == 0).sum() == 9 * (4 - 2) * 6
    assert (before != after).sum() == 9 * 2 * 6


def test_gradient_is_that_of_the_dense_kernel_at_the_connections() -> None:
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradient by tf.GradientTape")
    import tensorflow as tf

    layer = built(filters=5, table=RAGGED, use_bias=False)
    x, target = tf.constant(noise(2, 6, 6, 4)), tf.constant(noise(2, 4, 4, 5))
    kernel = tf.Variable(numpy_of(layer.kernel))
    with tf.GradientTape() as tape:
        own = tf.reduce_sum((layer(x) - target) ** 2)
    found = tape.gradient(own, layer.trainable_weights[0].value).numpy()
    with tf.GradientTape() as tape:
        dense = tf.reduce_sum((tf.nn.conv2d(x, kernel, 1, "VALID") - target) ** 2)
    full = tape.gradient(dense, kernel).numpy()
    pairs = [(index, output) for output, row in enumerate(RAGGED) for index in row]
    for number, (index, output) in enumerate(pairs):
        np.testing.assert_allclose(found[number], full[:, :, index, output], rtol=1e-4, atol=1e-4)


def test_file_holds_the_connections_and_loads_bit_equal(tmp_path: Path) -> None:
    image = keras.Input((9, 9, 4))
    x = ConnectionTableConv2D(8, 3, fan_in=2, seed=7, name="drawn")(image)
    model = keras.Model(image, ConnectionTableConv2D(5, 3, table=[[0], *RAGGED[1:]], name="given")(x))
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    data = noise(1, 9, 9, 4)
    np.testing.assert_array_equal(numpy_of(model(data)), numpy_of(again(data)))
    assert [w.shape for w in again.weights] == [(16, 3, 3), (8,), (10, 3, 3), (5,)]
    assert again.get_layer("drawn").table == model.get_layer("drawn").table


def test_refuses_tables_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="`fan_in` must be an integer from 1 to the number of input maps, 4"):
        built(fan_in=5)
    with pytest.raises(UsageError, match="Received: 5 rows, 0 of them wrong"):
        built(table=RAGGED)
    for row in ([], [0, 0], [4], [-1]):
        with pytest.raises(
            UsageError, match=r"`table` must have 5 rows .* Received: 5 rows, 1 of them wrong"
        ):
            built(filters=5, table=[row, *RAGGED[1:]])
    with pytest.raises(UsageError, match="needs one of `fan_in` and `table`"):
        built()
    with pytest.raises(UsageError, match="`seed` must be an integer"):
        built(fan_in=2, seed=-1)
    with pytest.raises(UsageError, match=r"takes the place of groups. Received: groups=2"):
        built(fan_in=2, groups=2)
    with pytest.raises(UsageError, match="cannot have LoRA"):
        built(fan_in=2).enable_lora(2)
    with pytest.raises(ValueError, match="Computed output size would be zero or negative"):
        ConnectionTableConv2D(6, 3, fan_in=2)(keras.Input((2, 9, 4)))


def test_exports_as_one_convolution_with_a_constant_kernel(
    run_tflite, to_onnx, run_onnx, parse_tensorrt
) -> None:
    onnx = pytest.importorskip("onnx")
    image = keras.Input((20, 24, 32), name="image")
    # Large enough that a converter which spares itself the folding of large constants would show.
    layer = ConnectionTableConv2D(128, 7, fan_in=16, seed=1)
    model = keras.Model(image, layer(image))
    x = noise(1, 20, 24, 32)
    expected = numpy_of(model(x))
    np.testing.assert_allclose(run_tflite(model, x), expected, atol=1e-4)
    proto = to_onnx(model, (1, 20, 24, 32))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=1e-4)
    assert parse_tensorrt(proto) == []
    graph = onnx.load_from_string(proto).graph
    assert [node.op_type for node in graph.node if node.op_type != "Transpose"] == ["Conv"]
    (convolution,) = [node for node in graph.node if node.op_type == "Conv"]
    assert convolution.input[1] in {constant.name for constant in graph.initializer}
