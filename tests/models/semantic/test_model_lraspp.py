"""LR-ASPP through the battery, and torchvision's parameter count."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import pytest
from battery import ModelBattery

import deploy
from kseg.data import Sample
from kseg.models import LRASPP
from kseg.models.summary import parameters, shapes_only


class TestLRASPP(ModelBattery):
    architecture = "LRASPP"
    # At width 0.25 the moving statistics of four images are too poor to judge int8 by.
    toy: ClassVar = {"encoder": "mobilenetv3small", "width": 0.5}
    steps = 70

    def test_int8_sees_the_same_classes(
        self, trained: Any, saved: Path, small: list[Sample], tmp_path: Path
    ) -> None:
        pytest.importorskip("ai_edge_quantizer")
        path = tmp_path / "model.tflite"
        deploy.export(
            trained[0],
            path,
            precision="int8",
            size=small[0].mask.shape,
            calibration=small,
            verify=False,
        )
        assert deploy.read_spec(path).export["precision"] == "int8"
        outcome = deploy.verify(path, reference=trained[0], data=small)
        assert outcome.agreement > 0.97
        assert outcome.drop < 3


def test_parameters_are_torchvisions() -> None:
    with shapes_only():
        assert parameters(LRASPP(num_classes=21))[0] == 3_221_538


def test_deep_features_have_stride_16_and_the_low_score_stride_8() -> None:
    with shapes_only():
        model = LRASPP(input_shape=(128, 160, 3), num_classes=2, width=0.25)
    assert model.info.stride == 16
    assert model.get_layer("gate").output.shape[1:3] == (8, 10)
    assert model.get_layer("score_low").output.shape[1:3] == (16, 20)


def test_an_encoder_that_cannot_be_dilated_is_used_at_stride_32() -> None:
    model = LRASPP(input_shape=(64, 96, 3), num_classes=2, encoder="resnet18", width=0.125)
    assert model.info.stride == 32
    assert model.get_layer("gate").output.shape[1:3] == (2, 3)
    assert isinstance(model.get_layer("score_low"), keras.layers.Conv2D)
    assert model.get_layer("score_low").output.shape[1:3] == (8, 12)
