"""U-Net through the battery in both forms, and the paper's sizes and parameter counts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from battery import ModelBattery

from kseg.errors import UsageError
from kseg.models import UNet
from kseg.models.summary import parameters, shapes_only


class TestUNet(ModelBattery):
    architecture = "UNet"
    toy: ClassVar = {"width": 0.125, "depth": 3}
    rate = 1e-2
    steps = 20


class TestUNetPaper(ModelBattery):
    architecture = "UNet"
    toy: ClassVar = {"padding": "valid", "depth": 2, "width": 0.125}
    steps = 30


@pytest.mark.parametrize(
    ("channels", "classes", "count"), [(1, 1, 31_030_593), (1, 2, 31_030_658), (3, 21, 31_033_045)]
)
def test_paper_form_has_the_published_parameters(channels: int, classes: int, count: int) -> None:
    with shapes_only():
        model = UNet(input_shape=(None, None, channels), num_classes=classes, padding="valid")
        assert parameters(model)[0] == count


def test_paper_form_sees_572_and_gives_388() -> None:
    model = UNet(input_shape=(388, 388, 1), num_classes=2, padding="valid", width=0.125)
    sizes = {layer.name: layer.output.shape[1] for layer in model.layers}
    assert sizes["pad"] == 572
    assert [sizes[f"down{level}_2_conv"] for level in range(5)] == [568, 280, 136, 64, 28]
    assert [sizes[f"up{level}_crop"] for level in range(4)] == [392, 200, 104, 56]
    assert sizes["up0_2_conv"] == sizes["logits"] == 388


def test_paper_form_mirrors_the_border() -> None:
    model = UNet(input_shape=(28, 28, 1), num_classes=2, padding="valid", width=0.125, depth=2)
    image = np.random.default_rng(0).normal(size=(1, 28, 28, 1)).astype("float32")
    padded = np.asarray(model.get_layer("pad")(image))
    np.testing.assert_array_equal(padded[0, :, :, 0], np.pad(image[0, :, :, 0], 20, mode="reflect"))


def test_paper_form_refuses_an_image_smaller_than_its_margin() -> None:
    with pytest.raises(UsageError, match=r"at least 108.*60 x 200"):
        UNet(input_shape=(60, 200, 3), padding="valid", width=0.125)


def test_forms_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="plain encoder only"):
        UNet(encoder="resnet18", padding="valid")
    with pytest.raises(UsageError, match=r"`padding` must be one of .* Did you mean 'valid'"):
        UNet(padding="vald")
    with pytest.raises(UsageError, match="`depth` must be a whole number >= 1 and <= 6"):
        UNet(depth=0)


def test_vgg_gives_the_maps_before_its_pools() -> None:
    model = UNet(input_shape=(64, 64, 3), encoder="vgg16", width=0.125, num_classes=2)
    assert model.get_layer("up1_skip").output.shape[1:3] == (64, 64)
