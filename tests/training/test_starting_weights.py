"""How a network starts: from another one's weights, or from what its layers learn from the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import kseg
from kseg.errors import UsageError
from kseg.models import FCN8s, FCN16s, UNet, rebuild
from kseg.training.callbacks import Anneal
from kseg.training.starting_weights import adapt, init_from

SPEC = kseg.Spec(classes=("a", "b", "c"))
TOY: dict[str, Any] = {"num_classes": 3, "encoder": "resnet18", "width": 0.125}


class Centre(keras.layers.Layer):
    """Takes away the mean that it saw."""

    adapts = True

    def build(self, input_shape: tuple) -> None:
        self.mean = self.add_weight(shape=(input_shape[-1],), trainable=False, initializer="zeros")

    def adapt(self, values: np.ndarray) -> None:
        self.mean.assign(values.mean(axis=(0, 1, 2)))

    def call(self, inputs: Any) -> Any:
        return inputs - self.mean


class Warm(keras.layers.Layer):
    """Notes what it is told."""

    def anneal(self, progress: float) -> None:
        self.told = [*getattr(self, "told", []), progress]

    def call(self, inputs: Any) -> Any:
        return inputs


def test_a_finer_net_starts_with_what_the_coarser_one_knows(tmp_path: Path) -> None:
    coarse, fine = FCN16s(**TOY), FCN8s(**TOY)
    kseg.save(coarse, tmp_path / "16s.keras", SPEC)
    lines: list[str] = []
    init_from(fine, str(tmp_path / "16s.keras"), lines.append)
    for layer in (layer for layer in coarse.layers if layer.weights):
        for mine, theirs in zip(fine.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert "new: score_pool3" in lines[0]


def test_layers_adapt_in_order_each_to_what_the_earlier_ones_give() -> None:
    image = keras.Input((None, None, 3))
    first = Centre(name="first")(image)
    model = keras.Model(image, Centre(name="second")(first + 5.0))
    batches = [(np.full((2, 4, 4, 3), value, "float32"), None) for value in (1.0, 3.0, 100.0)]
    adapt(model, batches, lambda line: None, images=4)
    np.testing.assert_allclose(model.get_layer("first").mean, 2.0)
    np.testing.assert_allclose(model.get_layer("second").mean, 5.0)


def test_annealing_goes_from_0_to_1() -> None:
    image = keras.Input((4,))
    warm = Warm()
    model = keras.Model(image, keras.layers.Dense(1)(warm(image)))
    model.compile("sgd", "mse")
    x = np.zeros((2, 4), "float32")
    model.fit(x, x[:, :1], epochs=5, verbose=0, callbacks=[Anneal(model, 5)])
    assert warm.told == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_network_is_rebuilt_with_other_arguments_over_its_weights() -> None:
    model = UNet(num_classes=3, width=0.125, depth=2, dropout=0.5)
    model.spec = SPEC
    twin = rebuild(model, dropout=0.0)
    assert (twin.info.arch_args["dropout"], twin.spec.arch_args["dropout"]) == (0.0, 0.0)
    image = np.random.default_rng(0).random((1, 16, 16, 3), "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(model(image)), ops.convert_to_numpy(twin(image)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 3}, "weights that the trained network lacks"),
        ({"width": 0.25}, "UNet with width=0.25 has weights that the trained network lacks"),
        ({"deep": 3}, "no argument"),
    ],
)
def test_rebuilding_refuses_what_needs_other_weights(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rebuild(UNet(num_classes=3, width=0.125, depth=2), **changes)
