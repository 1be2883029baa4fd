"""Mask R-CNN: the published count, outputs of fixed shapes, and losses whatever an image holds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from truths import CASES, check_objects, image, truth, untouched

from kseg.errors import UsageError
from kseg.models import MaskRCNN, describe, forms
from kseg.models.shapes import shapes_only

LOSSES = {"rpn_class", "rpn_box", "box_class", "box", "mask"}
THIN: dict[str, Any] = {
    "num_classes": 3, "encoder": None, "width": 0.0625, "anchor_scale": 4, "proposals": 48, "detections": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return MaskRCNN(**THIN)


@pytest.fixture(scope="module")
def form(network: keras.Model) -> keras.Model:
    found = forms.loss_form(network)
    assert found is not None
    return found.model


def losses(form: keras.Model, target: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = form({forms.IMAGE: image(len(target["true_boxes"])), **target}, training=True)
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


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


@pytest.mark.parametrize("size", [(96, 64), (70, 81)])
def test_outputs_have_fixed_shapes(network: keras.Model, size: tuple[int, int]) -> None:
    found = {
        name: ops.convert_to_numpy(value) for name, value in network(image(2, size), training=False).items()
    }
    assert {name: value.shape for name, value in found.items()} == {
        "boxes": (2, 12, 4), "scores": (2, 12), "classes": (2, 12), "masks": (2, 12, 28, 28),
    }  # fmt: skip
    check_objects(found, size, classes=3)


@pytest.mark.parametrize(("rows", "objects", "crowds"), CASES.values(), ids=CASES)
def test_losses_are_finite_whatever_is_there(
    form: keras.Model, rows: int, objects: list[int], crowds: list[int] | None
) -> None:
    found = losses(form, truth(rows, objects, crowds))
    assert set(found) == LOSSES
    assert all(np.isfinite(value).all() and value.shape == (2,) for value in found.values())
    assert all((value >= 0).all() for value in found.values())
    empty = np.array(objects) == 0
    for name in ("rpn_box", "box", "mask"):
        assert not found[name][empty].any(), name
        assert found[name][~empty].all(), name
    assert (found["rpn_class"] > 0).all()


def test_true_boxes_reach_the_heads(form: keras.Model) -> None:
    """However poor the proposals, each object is learned from: its own box is among the regions."""
    assert losses(form, truth(4, [1, 1]))["mask"].min() > 0.3


def test_the_losses_reach_every_part_of_the_network() -> None:
    keras.utils.set_random_seed(1)
    model = MaskRCNN(**THIN)
    found = forms.loss_form(model)
    assert found is not None
    assert untouched(found.model, model, {forms.IMAGE: image(), **truth(5, [4, 3])}) == []


def test_it_is_registered_and_refuses_nonsense() -> None:
    entry = describe("mask-r-cnn")
    assert (entry.name, entry.task) == ("MaskRCNN", "instance")
    with pytest.raises(UsageError):
        MaskRCNN(num_classes=2, encoder="no such encoder")
