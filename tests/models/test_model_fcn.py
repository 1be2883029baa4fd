"""The FCN family through the battery: clean and paper form, several encoders."""

from __future__ import annotations

from typing import ClassVar

import pytest
from battery import ModelBattery

from kseg.errors import UsageError
from kseg.models import FCN8s, FCN16s, FCNAlexNet


class TestFCN8s(ModelBattery):
    architecture = "FCN8s"
    toy: ClassVar = {"encoder": "resnet18", "width": 0.125, "head_channels": 32}
    rate = 1e-2
    steps = 30


class TestFCN8sPaper(ModelBattery):
    architecture = "FCN8s"
    toy: ClassVar = {"padding": "paper", "width": 0.1, "head_channels": 16}
    size = (64, 64)
    steps = 30


class TestFCN16s(ModelBattery):
    architecture = "FCN16s"
    toy: ClassVar = {"encoder": "vgg16", "upsampling": "learned", "width": 0.1, "head_channels": 32}
    steps = 50


class TestFCN32s(ModelBattery):
    architecture = "FCN32s"
    toy: ClassVar = {"encoder": "alexnet", "width": 0.25, "head_channels": 32}
    rate = 1e-2
    steps = 50


class TestFCN8sAtOnce(ModelBattery):
    architecture = "FCN8sAtOnce"
    toy: ClassVar = {"encoder": "vgg16", "width": 0.1, "head_channels": 32}
    steps = 70


class TestFCNAlexNet(ModelBattery):
    architecture = "FCNAlexNet"
    toy: ClassVar = {"padding": "paper", "width": 0.25, "head_channels": 32}
    size = (64, 64)
    steps = 60


def test_choices_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="padding='paper' is defined for the encoders vgg16 and alexnet"):
        FCN8s(encoder="resnet18", padding="paper")
    with pytest.raises(UsageError, match="no skips over AlexNet"):
        FCN16s(encoder="alexnet", padding="paper")
    with pytest.raises(UsageError, match="must be 'alexnet'"):
        FCNAlexNet(encoder="vgg16")
    with pytest.raises(UsageError, match=r"`upsampling` must be one of .* Did you mean 'learned'"):
        FCN8s(upsampling="learnt")
