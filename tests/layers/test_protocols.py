"""What layers declare is found by who asks for it, and nothing else is."""

from __future__ import annotations

import keras
import numpy as np

from kseg.layers import ConnectionTableConv2D, Textons
from kseg.layers.protocols import Adapts, adapting, annealing, not_averaged, wiring
from kseg.training.averaging import averaged_variables


class Centre(keras.layers.Layer):
    """A layer from outside the package: subtracts the mean that it was shown."""

    adapts = True
    seen = 0.0

    def adapt(self, values: np.ndarray) -> None:
        self.seen = float(values.mean())

    def call(self, inputs):
        return inputs - self.seen


def network(adapts: bool = True) -> keras.Model:
    image = keras.Input((8, 8, 3))
    centre = Centre(name="centre")
    centre.adapts = adapts
    x = keras.layers.Normalization(name="normalization")(centre(image))
    x = ConnectionTableConv2D(4, 3, fan_in=2, name="table")(x)
    return keras.Model(image, Textons(5, name="textons")(x))


def test_declared_layers_are_found_in_the_order_of_the_graph() -> None:
    model = network()
    assert [layer.name for layer in adapting(model)] == ["centre", "textons"]
    assert annealing(model) == [model.get_layer("textons")]
    assert [layer.name for layer in model.layers if wiring(layer) is not None] == ["table"]


def test_an_adapt_of_keras_own_is_not_ours() -> None:
    assert not isinstance(keras.layers.Normalization(), Adapts)
    assert [layer.name for layer in adapting(network(adapts=False))] == ["textons"]


def test_annealed_values_are_not_averaged_in_nested_models_either() -> None:
    inner = network()
    image = keras.Input((8, 8, 3))
    outer = keras.Model(image, keras.layers.Conv2D(2, 1)(inner(image)))
    temperature = inner.get_layer("textons").temperature
    for model in (inner, outer):
        assert list(not_averaged(model)) == [temperature]
        averaged = averaged_variables(model)
        assert any(variable is temperature for variable in model.weights)
        assert not any(variable is temperature for variable in averaged)
        assert any(variable is inner.get_layer("textons").centres for variable in averaged)
