"""ResUNet through the battery, and the page of numbers it was chosen by."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from battery import ModelBattery

from kseg.errors import UsageError
from kseg.models import ResUNet, flops
from kseg.models.summary import parameters, shapes_only


class TestResUNet(ModelBattery):
    architecture = "ResUNet"
    toy: ClassVar = {"width": 0.25}
    rate = 1e-2
    steps = 30


def test_parameters_and_operations_are_those_documented() -> None:
    with shapes_only():
        model = ResUNet(num_classes=11)
        assert parameters(model) == (5_056_715, 5_064_651)
        assert flops(model, (256, 320)) == pytest.approx(6.83e9, rel=0.005)
        assert flops(model, (240, 320)) == flops(model, (256, 320))  # what is padded is computed, too


def test_the_gate_weights_channels_between_zero_and_one() -> None:
    import keras

    model = ResUNet(input_shape=(64, 64, 3), num_classes=2, width=0.25)
    gate = keras.Model(model.input, model.get_layer("gate_weights").output)
    values = np.asarray(gate(np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")))
    assert values.shape == (2, 1, 1, 64)
    assert ((values > 0) & (values < 1)).all()


def test_imagenet_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="no ImageNet weights"):
        ResUNet(weights="imagenet", width=0.25)
