"""The fused batch normalisation has the numbers of Keras' layer, in every policy and state."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers import BatchNormalization


def _trained(layer, x: np.ndarray, steps: int = 3) -> list[np.ndarray]:
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="head", dtype="float32")(layer(inputs)))
    model.get_layer("head").kernel.assign(np.linspace(-1, 1, x.shape[-1] * 2).reshape(1, 1, -1, 2))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    target = np.stack([x[..., 0], x[..., 1] ** 2], axis=-1)
    model.fit(x, target, batch_size=4, epochs=steps, shuffle=False, verbose=0)
    return [*(w.astype("float32") for w in model.get_weights()), model.predict(x, verbose=0)]


@pytest.mark.parametrize(
    ("policy", "tolerance", "arguments"),
    [
        ("float32", 2e-5, {}),
        ("float32", 2e-5, {"scale": False}),
        ("float32", 2e-5, {"center": False, "momentum": 0.8}),
        ("mixed_bfloat16", 3e-2, {}),
        ("mixed_float16", 4e-3, {}),
    ],
)
def test_training_equals_keras(policy, tolerance, arguments):
    x = np.random.default_rng(0).normal(1, 2, size=(8, 5, 6, 4)).astype("float32")
    ours = _trained(BatchNormalization(dtype=policy, **arguments), x)
    theirs = _trained(keras.layers.BatchNormalization(dtype=policy, **arguments), x)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=tolerance * max(1.0, np.abs(other).max()))


def test_the_fused_kernel_is_what_trains():
    if keras.config.backend() != "tensorflow":
        pytest.skip("the fused kernel is TensorFlow's")
    import tensorflow as tf

    layer = BatchNormalization()
    layer.build((None, 4, 4, 3))

    def operations(training: bool) -> set[str]:
        function = tf.function(lambda x: layer(x, training=training))
        graph = function.get_concrete_function(tf.TensorSpec((2, 4, 4, 3))).graph
        return {op.type for op in graph.get_operations()}

    assert "FusedBatchNormV3" in operations(training=True)
    layer.trainable = False
    assert "FusedBatchNormV3" not in operations(training=True)


def test_frozen_and_inference_do_not_move_the_statistics():
    x = np.random.default_rng(1).normal(3, 2, size=(4, 4, 4, 2)).astype("float32")
    layer = BatchNormalization()
    layer(x, training=False)
    layer.trainable = False
    layer(x, training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.moving_mean), 0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.moving_variance), 1)


def test_one_value_per_channel_and_other_ranks():
    for shape in ((1, 1, 1, 3), (6, 3), (2, 5, 3)):
        x = np.random.default_rng(2).normal(size=shape).astype("float32")
        ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours(x, training=True)),
            ops.convert_to_numpy(theirs(x, training=True)),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours.moving_variance),
            ops.convert_to_numpy(theirs.moving_variance),
            atol=1e-5,
        )
