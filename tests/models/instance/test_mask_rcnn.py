"""Mask R-CNN: the published count, outputs of fixed shapes, and losses whatever an image holds."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
from instance_battery import InstanceBattery, values
from truths import image, truth

from kseg.models import MaskRCNN, forms
from kseg.models.shapes import shapes_only


class TestMaskRCNN(InstanceBattery):
    architecture = "MaskRCNN"
    toy: ClassVar = {"encoder": None, "width": 0.0625, "anchor_scale": 4, "proposals": 48, "detections": 12}
    of_objects: ClassVar = {"rpn_box", "box", "mask"}
    others: ClassVar = {"rpn_class", "box_class"}
    nonsense = ({"encoder": "no such encoder"}, {"proposals": 10**9}, {"detections": 0})
    quick = ()  # `test_instance_road` exports and scores it

    def test_true_boxes_reach_the_heads(self, form: keras.Model) -> None:
        """However poor the proposals, each object is learned from: its own box is among the regions."""
        found = values(form({forms.IMAGE: image(), **truth(4, [1, 1])}, training=True))
        assert found["mask"].min() > 0.3


def test_the_count_of_the_ledger() -> None:
    """torchvision's Mask R-CNN R50-FPN with trainable normalisation; Keras' ResNet has biases besides."""
    with shapes_only():
        model = MaskRCNN(num_classes=91)
    count = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    resnet = [
        layer
        for layer in model.layers
        if layer.name.startswith("conv") and isinstance(layer, keras.layers.Conv2D)
    ]
    biases = sum(layer.filters for layer in resnet if layer.use_bias)
    assert count - biases == 44_454_513
