"""MNC: the sheet's checks, at tiny widths: counts, anchors, masking, gradients through boxes, candidates."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from instance_battery import InstanceBattery, losses_of, values
from keras import ops
from truths import image, truth

from kseg.models import MNC, forms, rebuild
from kseg.models.shapes import shapes_only


class TestMNC(InstanceBattery):
    architecture = "MNC"
    toy: ClassVar = {
        "encoder": None, "width": 0.0625, "hidden": 128, "mask_hidden": 128, "anchor_scales": (1, 2),
        "proposals": 24, "least_side": 4, "detections": 8,
    }  # fmt: skip
    mask = 21
    # Background has a class, and neither a box nor a mask.
    of_objects: ClassVar = {"rpn_box", "mask2", "box3", "mask4", "box5"}
    # An anchor is learned as what its box is: as background all of them, now and then.
    at_times_zero: ClassVar = {"rpn_box"}
    others: ClassVar = {"rpn_class", "box_class3", "mask_class3", "box_class5", "mask_class5"}
    nonsense = (
        {"variant": "other"}, {"stages": 4}, {"inference": "none"}, {"candidates": "first"}, {"mask_size": 0},
        {"voters": 0}, {"detections": 10**9}, {"anchor_scales": (-1,)},
    )  # fmt: skip

    def test_the_mask_path_sees_what_the_box_path_sees_under_the_mask(self, network: keras.Model) -> None:
        """A mask of ones: the same; of zeros: nothing."""
        features = np.random.default_rng(0).normal(size=(1, 2, 14, 14, 4)).astype(np.float32)
        for fill in (0.0, 1.0):
            masks = np.full((1, 2, 21, 21), fill, np.float32)
            given = ops.convert_to_numpy(network.get_layer("masked")(features, masks))
            np.testing.assert_allclose(given, fill * features, atol=1e-6)

    def test_a_single_pathway_is_asked(self, network: keras.Model) -> None:
        """What the same network says when the other pathway is silent, to the last digit."""
        half = rebuild(network, inference="mask")
        assert len(half.weights) == len(network.weights)
        assert len(rebuild(network, stages=3, voters=1).weights) == len(network.weights)
        silent = rebuild(network)
        last = silent.get_layer("fc7_box")
        last.set_weights([0 * part for part in last.get_weights()])
        found, expected, before = (
            values(model(image(1), training=False)) for model in (half, silent, network)
        )
        np.testing.assert_array_equal(found["scores"], expected["scores"])
        assert not np.array_equal(found["scores"], before["scores"])


@pytest.mark.parametrize(
    ("more", "count"),
    [({}, 283_029_933), ({"stages": 3}, 283_029_933), ({"mask_size": 28}, 283_118_084)],
    ids=["5 stages", "3 stages", "28"],
)
def test_the_count_of_the_ledger(more: dict[str, int], count: int) -> None:
    with shapes_only():
        model = MNC(**more)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == count
    heads = [model.get_layer(name).kernel.shape for name in ("box_score", "mask_score", "box_move")]
    assert heads == [(8192, 21), (8192, 21), (8192, 84)]
    anchors = next(layer for layer in model.layers if layer.name == "anchors16")
    assert anchors.reference.shape == (9, 4)
    np.testing.assert_array_equal(anchors.reference[0], [-40, -84, 56, 100])
    side = more.get("mask_size", 21)
    assert model.output["masks"].shape == (None, 100, side, side)


@pytest.mark.parametrize(
    ("more", "count"),
    [({}, 600), ({"candidates": "last"}, 300), ({"stages": 3}, 300)],
    ids=["both", "last", "3 stages"],
)
def test_candidates_of_stages_3_and_5(more: dict[str, Any], count: int) -> None:
    with shapes_only():
        model = MNC(encoder=None, width=0.0625, **more)
    assert model.get_layer("detections").input[1].shape == (None, count, 4)
    assert model.get_layer("voting").input[6].shape == (None, count, 21, 21)


def gradients(model: keras.Model, losses: set[str], names: list[str]) -> list[float]:
    """Return the largest gradient of the sum of some losses by the kernels of layers; 0 where none passes."""
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(1)
    found = losses_of(model).model
    with tf.GradientTape() as tape:
        answers = found({forms.IMAGE: image(), **truth(5, [4, 3])}, training=True)
        total = sum(tf.reduce_sum(answers[name]) for name in losses)
    kernels = [model.get_layer(name).kernel.value for name in names]
    return [0.0 if part is None else float(np.abs(part).max()) for part in tape.gradient(total, kernels)]


def test_the_class_s_loss_reaches_the_boxes_that_were_proposed() -> None:
    """And the boxes that stage 3 moved, and the mask; with the gradient stopped, the mask only."""
    found = {
        through: gradients(
            TestMNC.make(through_boxes=through, variant="paper"),
            {"mask_class5"},
            ["rpn_box", "box_move", "mask_logits"],
        )
        for through in (True, False)
    }
    assert min(found[True]) > 0
    assert found[False][:2] == [0, 0]
    assert found[False][2] > 0


def test_variants_weigh_and_cut() -> None:
    made = [{}, {"variant": "paper"}, {"through_boxes": False}]
    with shapes_only():
        models = [TestMNC.make(**more) for more in made]
        found = [losses_of(model) for model in models]
    assert [form.weights for form in found] == [
        {"mask2": 2.0, "mask4": 2.0}, {"mask2": 1.0, "mask4": 1.0}, {"mask2": 2.0, "mask4": 2.0},
    ]  # fmt: skip
    limits = [
        [layer.gradient for layer in form.model.layers if layer.name in ("drawn_from", "refined_drawn")]
        for form in found
    ]
    assert limits == [[1 / 512] * 2, [np.inf] * 2, [None] * 2]
    # Anchors of drawn boxes, and what they are, go into the proposals' losses too, as released.
    given = [len(form.model.get_layer("rpn_losses").input) for form in found]
    assert given == [9, 7, 9]
    assert [model.get_layer("refined").foreground for model in models] == [False, True, False]
