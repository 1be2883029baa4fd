"""Batch-normalisation statistics measured again, against a direct computation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from kseg.errors import DataError, UsageError
from kseg.layers import BatchNormalization
from kseg.training.batch_norm_statistics import reestimate_batch_norm


def _network(kind: Any = BatchNormalization) -> keras.Model:
    """Two normalised convolutions and a dropout; statistics far from any data."""
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="a")(image)
    x = layers.ReLU()(kind(epsilon=1e-3, name="a_bn")(x))
    x = layers.Conv2D(5, 3, strides=2, name="b")(x)
    x = kind(epsilon=1e-3, name="b_bn")(x)
    model = keras.Model(image, layers.Dropout(0.5, name="drop")(x))
    for name in ("a_bn", "b_bn"):
        layer = model.get_layer(name)
        size = layer.gamma.shape[0]
        layer.set_weights([np.linspace(a, b, size) for a, b in ((0.5, 2), (-1, 1), (7, 9), (40, 50))])
    return model


def _batches(count: int, size: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = [(size, 8 + 2 * (i % 2), 10, 3) for i in range(count)]
    return [
        (random.normal(i, 1 + i, s).astype("float32"), np.zeros(s[:3], "int32")) for i, s in enumerate(shapes)
    ]


def _convolved(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(model.get_layer(name)(x)).astype("float64")


def _direct(model: keras.Model, batches: list) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Average over the batches of each layer's mean and unbiased variance, written out."""
    found: dict[str, list] = {"a_bn": [], "b_bn": []}
    for images, _ in batches:
        x = _convolved(model, "a", images)
        found["a_bn"].append((x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)))
        gamma, beta = (ops.convert_to_numpy(w) for w in model.get_layer("a_bn").trainable_weights)
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3) * gamma + beta
        x = _convolved(model, "b", np.maximum(x, 0).astype("float32"))
        found["b_bn"].append((x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)))
    return {name: tuple(np.mean(values, axis=0)) for name, values in found.items()}


def _statistics(model: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    layer = model.get_layer(name)
    return ops.convert_to_numpy(layer.moving_mean), ops.convert_to_numpy(layer.moving_variance)


@pytest.mark.parametrize("kind", [BatchNormalization, layers.BatchNormalization])
def test_statistics_are_the_average_over_batches_of_mean_and_unbiased_variance(kind: Any) -> None:
    model = _network(kind)
    kept = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    batches = _batches(5)
    assert reestimate_batch_norm(model, iter(batches), count=3) == 3
    for name, expected in _direct(model, batches[:3]).items():
        for got, wanted in zip(_statistics(model, name), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    for weight, value in zip(model.trainable_weights, kept, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


def test_fewer_batches_than_asked_for_are_all_used() -> None:
    model = _network()
    assert reestimate_batch_norm(model, [images for images, _ in _batches(2)], count=9) == 2
    np.testing.assert_allclose(
        _statistics(model, "b_bn")[0], _direct(model, _batches(2))["b_bn"][0], rtol=1e-3
    )


def test_a_data_set_is_read_over_several_epochs() -> None:
    class Two(keras.utils.PyDataset):
        epochs = 0

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return _batches(2 + 2 * self.epochs)[index + 2 * self.epochs]

        def on_epoch_end(self) -> None:
            self.epochs += 1

    model = _network()
    assert reestimate_batch_norm(model, Two(), count=4) == 4
    np.testing.assert_allclose(
        _statistics(model, "a_bn")[1], _direct(model, _batches(4))["a_bn"][1], rtol=1e-4
    )


def test_one_batch_makes_inference_equal_to_training() -> None:
    model = _network()
    images = _batches(1, size=64)[0][0]
    reestimate_batch_norm(model, [images])
    inference = ops.convert_to_numpy(model(images, training=False))
    body = keras.Model(model.input, model.get_layer("b_bn").output)
    np.testing.assert_allclose(inference, ops.convert_to_numpy(body(images, training=True)), atol=1e-2)


def test_a_frozen_layer_keeps_and_uses_its_statistics() -> None:
    model = _network()
    model.get_layer("a_bn").trainable = False
    before = _statistics(model, "a_bn")
    images = _batches(1)[0][0]
    reestimate_batch_norm(model, [images])
    for got, wanted in zip(_statistics(model, "a_bn"), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    body = keras.Model(model.input, model.get_layer("b").output)
    x = ops.convert_to_numpy(body(images, training=False))
    np.testing.assert_allclose(_statistics(model, "b_bn")[0], x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_a_shared_layer_gets_the_average_over_its_calls() -> None:
    image = keras.Input((4, 4, 2))
    norm = BatchNormalization(name="norm")
    model = keras.Model(image, norm(layers.Rescaling(3.0, offset=2.0)(norm(image))))
    x = np.random.default_rng(1).normal(5, 2, (8, 4, 4, 2)).astype("float32")
    reestimate_batch_norm(model, [x])
    # The second call receives 3 n + 2 with n of mean 0.
    np.testing.assert_allclose(_statistics(model, "norm")[0], (x.mean((0, 1, 2)) + 2) / 2, rtol=1e-4)


def test_when_it_cannot_be_done_the_statistics_stay() -> None:
    model = _network()
    before = [ops.convert_to_numpy(w) for w in model.weights]
    with pytest.raises(DataError, match="no batch"):
        reestimate_batch_norm(model, [])
    with pytest.raises(DataError, match="one single value"):
        # The second batch is the bad one: 3 x 3 pixels become 1 x 1.
        reestimate_batch_norm(model, [_batches(1)[0], np.ones((1, 3, 3, 3), "float32")])
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


def test_networks_that_it_cannot_serve_are_refused() -> None:
    image = keras.Input((8, 8, 3))
    with pytest.raises(UsageError, match="inside a nested model"):
        reestimate_batch_norm(keras.Model(image, _network()(image)), _batches(1))
    with pytest.raises(UsageError, match="has no batch normalisation"):
        reestimate_batch_norm(keras.Model(image, layers.Conv2D(2, 1)(image)), _batches(1))
    with pytest.raises(UsageError, match="`count`"):
        reestimate_batch_norm(_network(), _batches(1), count=0)
