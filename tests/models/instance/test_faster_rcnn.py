"""Faster R-CNN: the published count, boxes whose masks fill them, and losses whatever an image holds."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest
from instance_battery import InstanceBattery, losses_of, values
from truths import image, truth

from kseg.errors import UsageError
from kseg.models import FasterRCNN, forms
from kseg.models.shapes import shapes_only


class TestFasterRCNN(InstanceBattery):
    architecture = "FasterRCNN"
    toy: ClassVar = {
        "encoder": None, "width": 0.0625, "hidden": 128, "anchor_scales": (1, 2), "proposals": 24,
        "least_side": 4, "detections": 8,
    }  # fmt: skip
    mask = 1
    # Background is learned from near objects only, as published.
    of_objects: ClassVar = {"rpn_box", "box", "box_class"}
    others: ClassVar = {"rpn_class"}
    nonsense = (
        {"variant": "other"}, {"anchor_scales": ()}, {"anchor_ratios": (0,)}, {"proposals": 0},
        {"detections": 10**9},
    )  # fmt: skip

    def test_masks_fill_their_boxes(self, network: keras.Model) -> None:
        found = values(network(image(2), training=False))
        np.testing.assert_array_equal(found["masks"][..., 0, 0], found["scores"] > 0)

    def test_the_released_code_weighs_the_losses_alike(self, network: keras.Model) -> None:
        assert dict(losses_of(network).weights) == {"rpn_box": 1.0}


@pytest.mark.parametrize("size", [(None, None), (600, 1000)])
def test_the_count_of_the_ledger(size: tuple) -> None:
    with shapes_only():
        model = FasterRCNN((*size, 3))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 137_078_239
    parts = [layer for layer in model.layers if layer.name in ("rpn", "rpn_score", "rpn_box")]
    assert sum(layer.count_params() for layer in parts) == 2_387_510
    assert {name: value.shape for name, value in model.output.items()} == {
        "boxes": (None, 100, 4), "scores": (None, 100), "classes": (None, 100), "masks": (None, 100, 1, 1),
    }  # fmt: skip
    anchors = next(layer for layer in model.layers if layer.name == "anchors16")
    np.testing.assert_array_equal(anchors.reference[5], [-248, -248, 264, 264])


def test_other_trunks() -> None:
    with shapes_only():
        model = FasterRCNN(encoder="resnet50", hidden=64)
        assert model.get_layer("box_align").output.shape[-1] == 1024  # the fourth stage
        with pytest.raises(UsageError, match="`stride` must be one of 2, 4, 8, 16, 32"):
            FasterRCNN(encoder=None, stride=12)


def test_the_paper_s_losses_and_all_background() -> None:
    found = losses_of(TestFasterRCNN.make(variant="paper", background_from=0.0))
    assert found.weights["rpn_box"] == pytest.approx(10 * 256 / 2400)
    layer = next(layer for layer in found.model.layers if layer.name == "rpn_losses")
    assert layer.sigma == 1.0
    losses = values(found.model({forms.IMAGE: image(), **truth(2, [0, 0])}, training=True))
    assert losses["box_class"].all()
