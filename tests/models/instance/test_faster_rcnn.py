"""Faster R-CNN: the published count, boxes whose masks fill them, and losses whatever an image holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from truths import CASES, check_objects, image, truth, untouched

import kseg
from kseg.errors import UsageError
from kseg.layers.policy import dtype_policy
from kseg.models import FasterRCNN, describe, forms
from kseg.models.shapes import shapes_only

SPEC = kseg.Spec(classes=("nothing", "one", "other"), task="instance")
THIN: dict[str, Any] = {
    "num_classes": 3, "encoder": None, "width": 0.0625, "hidden": 128, "anchor_scales": (1, 2),
    "proposals": 24, "least_side": 4, "detections": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return FasterRCNN(**THIN)


@pytest.fixture(scope="module")
def form(network: keras.Model) -> keras.Model:
    found = forms.loss_form(network)
    assert found is not None
    assert dict(found.weights) == {"rpn_box": 1.0}
    return found.model


def values(found: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


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


@pytest.mark.parametrize("size", [(96, 64), (70, 81)])
def test_masks_fill_their_boxes(network: keras.Model, size: tuple[int, int]) -> None:
    found = values(network(image(2, size), training=False))
    check_objects(found, size, classes=3)
    np.testing.assert_array_equal(found["masks"][..., 0, 0], found["scores"] > 0)


@pytest.mark.parametrize(("rows", "objects", "crowds"), CASES.values(), ids=CASES)
def test_losses_are_finite_whatever_is_there(
    form: keras.Model, rows: int, objects: list[int], crowds: list[int] | None
) -> None:
    target = truth(rows, objects, crowds)
    found = values(form({forms.IMAGE: image(), **target}, training=True))
    assert set(found) == {"rpn_class", "rpn_box", "box_class", "box"}
    assert all(np.isfinite(value).all() and (value >= 0).all() for value in found.values())
    empty = np.array(objects) == 0
    # Background is learned from near objects only, as published.
    for name in ("rpn_box", "box", "box_class"):
        assert not found[name][empty].any(), name
        assert found[name][~empty].all(), name


def test_the_paper_s_losses_and_all_background() -> None:
    found = forms.loss_form(FasterRCNN(**THIN, variant="paper", background_from=0.0))
    assert found is not None
    assert found.weights["rpn_box"] == pytest.approx(10 * 256 / 2400)
    layer = next(layer for layer in found.model.layers if layer.name == "rpn_losses")
    assert layer.sigma == 1.0
    losses = values(found.model({forms.IMAGE: image(), **truth(2, [0, 0])}, training=True))
    assert losses["box_class"].all()


def test_gradients_reach_every_weight(network: keras.Model, form: keras.Model) -> None:
    assert untouched(form, network, {forms.IMAGE: image(), **truth(5, [4, 3])}) == []


def test_bfloat16_saving_and_nonsense(network: keras.Model, tmp_path: Path) -> None:
    kseg.save(network, tmp_path / "m.keras", spec=SPEC)
    again = kseg.load(tmp_path / "m.keras")
    first, second = (values(model(image(1), training=False)) for model in (network, again))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    with dtype_policy("mixed_bfloat16"):
        half = values(FasterRCNN(**THIN)(image(1), training=False))
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in half.values())
    entry = describe("faster-rcnn")
    assert (entry.name, entry.task) == ("FasterRCNN", "instance")
    for wrong in ({"variant": "other"}, {"anchor_scales": ()}, {"anchor_ratios": (0,)}, {"proposals": 0}):
        with pytest.raises(UsageError, match=f"`{next(iter(wrong))}`"):
            FasterRCNN(**{**THIN, **wrong})
