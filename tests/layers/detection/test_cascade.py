"""What a cascade adds, where the answer is known, and on every runtime."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kseg.layers.detection import (
    ClassLoss,
    MaskedFeatures,
    MaskLoss,
    MaskVoting,
    Proposals,
    RefineBoxes,
    RightMasks,
)
from kseg.layers.detection.boxes import moved

Array = np.ndarray
IMAGE = np.zeros((1, 60, 80, 3), np.float32)
ONE = np.ones((1, 1), np.float32)


def as_arrays(found: tuple[Any, ...]) -> list[Array]:
    return [ops.convert_to_numpy(part) for part in found]


def test_boxes_move_as_their_best_class_says() -> None:
    boxes = np.array([[[10, 10, 30, 30], [50, 10, 60, 20]]], np.float32)
    numbers = np.zeros((1, 2, 3, 4), np.float32)
    numbers[0, 0, 2], numbers[0, 1, 1] = (1, -1, 0, 0), (9, 0, 0, 0)  # tenths of their sides
    logits = np.array([[[5, 0, 1], [0, 3, 2]]], np.float32)
    found = ops.convert_to_numpy(RefineBoxes()(IMAGE, boxes, numbers, logits))
    np.testing.assert_allclose(found[0], [[12, 8, 32, 28], [59, 10, 60, 20]], atol=1e-4)
    still = ops.convert_to_numpy(RefineBoxes(foreground=False)(IMAGE, boxes, numbers, logits))
    np.testing.assert_allclose(still[0], [[10, 10, 30, 30], [59, 10, 60, 20]], atol=1e-4)


def test_gradients_pass_to_boxes_that_the_image_does_not_cut() -> None:
    """Cut to 1 / 512 of each number; of the second box the image cuts the result, of the third the anchor."""
    tf = pytest.importorskip("tensorflow")
    boxes = tf.Variable([[[10.0, 10, 30, 30], [50, 10, 60, 20], [-2, 10, 10, 20]]])
    start = np.zeros((1, 3, 4), np.float32)
    start[0, 1], start[0, 2] = (0.3, 0, 0, 0), (0.5, 0, 0, 0)
    numbers = tf.Variable(start)
    weights = np.array([1e-4, 1, -1, 2], np.float32)
    found = {}
    for gradient in (None, 1 / 512, np.inf):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(moved(numbers, boxes, 60, 80, gradient=gradient) * weights)
        found[gradient] = tape.gradient(total, [numbers, boxes])
    assert found[None] == [None, None]
    part, to_boxes = (value.numpy()[0] for value in found[1 / 512])
    free = found[np.inf][0].numpy()[0]
    # The middle moves by 20 pixels per number, and both ends by that.
    np.testing.assert_allclose(free[0], [(1e-4 - 1) * 20, 3 * 20, -1.0001 * 10, 10], rtol=1e-4)
    np.testing.assert_allclose(part[0], np.sign(free[0]) / 512, rtol=1e-6)
    assert not part[1:].any()
    assert not free[1:].any()
    np.testing.assert_allclose(to_boxes[0], weights, atol=1e-5)


def test_gradients_are_cut_for_each_image() -> None:
    """Of the mean over a batch, an image's part is as large as by itself, divided by the number of images."""
    tf = pytest.importorskip("tensorflow")
    boxes = np.tile(np.array([[[10.0, 10, 30, 30]]], np.float32), (4, 1, 1))
    numbers = tf.Variable(np.zeros((4, 1, 4), np.float32))
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(tf.reduce_sum(moved(numbers, boxes, 60, 80, gradient=0.25)[..., 0], axis=1))
    np.testing.assert_allclose(tape.gradient(mean, numbers).numpy()[:, 0, 0], [0.25 / 4] * 4, rtol=1e-6)


def test_proposals_pass_the_gradient_to_their_own_anchors() -> None:
    tf = pytest.importorskip("tensorflow")
    anchors = np.array([[[5, 5, 15, 15], [30, 30, 50, 50], [31, 30, 51, 50]]], np.float32)
    logits, numbers = np.array([[0.0, 2, 1]], np.float32), tf.zeros((1, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        boxes, real = Proposals(3, 2, gradient=np.inf)(IMAGE, [logits], [numbers], [anchors])
        total = tf.reduce_sum(boxes[:, :, 0])
    assert real.numpy().all()
    np.testing.assert_allclose(tape.gradient(total, numbers).numpy()[0, :, 0], [10, 20, 0], atol=1e-5)


def test_masks_are_resized_as_released() -> None:
    """Row u of 14 samples row 1.5 u of 21: exactly, where the mask is a ramp."""
    mask = np.tile(np.arange(21, dtype=np.float32)[:, None], (1, 1, 1, 21))
    features = np.random.default_rng(0).normal(size=(1, 1, 14, 14, 2)).astype(np.float32)
    found = ops.convert_to_numpy(MaskedFeatures()(features, mask))
    expected = features * (1.5 * np.arange(14, dtype=np.float32))[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_right_masks() -> None:
    """Boxes on an object that fills its own: the whole, 4 of 10 rows, background, half of a box."""
    true_boxes, true_masks = np.array([[[0, 0, 10, 10]]], np.float32), np.ones((1, 1, 28, 28), np.uint8)
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 20]]], np.float32)
    masks = np.full((1, 4, 10, 10), 0.9, np.float32)
    masks[0, 1, 4:] = 0.39
    targets = np.ones((1, 4, 10, 10), np.float32)
    targets[0, 3, :, 5:] = 0
    positive = np.array([[1, 1, 0, 1]], np.float32)
    index = np.zeros((1, 4), np.int32)
    found = RightMasks()(masks, targets, boxes, index, positive, true_boxes, true_masks)
    assert ops.convert_to_numpy(found).tolist() == [[1, 0, 0, 1]]


def test_background_has_no_mask_loss_and_a_class() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 3, 5, 5, 1)).astype(np.float32)
    targets, none = random.integers(0, 2, (1, 3, 5, 5)).astype(np.float32), np.zeros((1, 3), np.int32)
    positive = np.array([[1, 1, 0]], np.float32)
    before = float(MaskLoss()(logits, targets, none, positive)[0])
    logits[0, 2] += 50
    assert float(MaskLoss()(logits, targets, none, positive)[0]) == before
    logits[0, 1] += 50
    assert float(MaskLoss()(logits, targets, none, positive)[0]) != before
    scores = np.log(np.array([[[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]], np.float32))
    loss = ClassLoss()(scores, none, positive, np.ones((1, 3), np.float32), np.array([[1]], np.int32))
    assert float(loss[0]) == pytest.approx(-np.log(0.5 * 0.5 * 0.25) / 3, abs=1e-6)


def vote(masks: Array, boxes: list, scores: list, box: list, voters: int = 16) -> list[Array]:
    """Let candidates of class 1 vote on one detection."""
    probabilities = np.array([[[1 - score, score] for score in scores]], np.float32)
    found = MaskVoting(voters)(
        np.array([[box]], np.float32), ONE, ONE.astype(np.int32), np.array([boxes], np.float32),
        np.ones((1, len(boxes)), np.float32), probabilities, masks[None].astype(np.float32),
    )  # fmt: skip
    return [part[0, 0] for part in as_arrays(found)]


def test_one_candidate_votes_for_its_own_mask() -> None:
    mask = np.random.default_rng(0).uniform(0, 1, (1, 21, 21))
    mask[0, [0, -1], 5], mask[0, 5, [0, -1]] = 0.9, 0.9  # to all four borders
    tight, found = vote(mask, [[3, 7, 45, 28]], [0.8], [3, 7, 45, 28])
    np.testing.assert_allclose(tight, [3, 7, 45, 28], atol=1e-4)
    np.testing.assert_array_equal(found >= 0.5, mask[0] >= 0.4)
    # What is smaller than its box gets a tight one.
    small = np.zeros((1, 21, 21))
    small[0, 7:14, :6] = 1
    tight, found = vote(small, [[0, 0, 21, 42]], [0.3], [0, 0, 21, 42])
    np.testing.assert_allclose(tight, [7, 0, 14, 12], atol=0.5)
    assert found.min() >= 0.5


def test_voted_boxes_end_within_the_image() -> None:
    """The sum of all steps over some boxes is rounded to behind their ends."""
    start = np.linspace(0, 40, 200, dtype=np.float32)
    end = np.full(200, 60, np.float32)
    assert (start + 24 * ((end - start) / np.float32(24)) > end).any()
    boxes, ones = np.stack([start, start, end, end], axis=-1)[:, None], np.ones((200, 1), np.float32)
    tight, _ = MaskVoting(1)(
        boxes, ones, ones.astype(np.int32), boxes, ones, np.ones((200, 1, 2), np.float32),
        np.ones((200, 1, 8, 8), np.float32),
    )  # fmt: skip
    assert ops.convert_to_numpy(tight).max() == 60


def test_candidates_vote_by_their_scores() -> None:
    masks = np.zeros((3, 8, 8))
    masks[0, :, :4], masks[1], masks[2] = 1, 1, 1
    boxes = [[0, 0, 16, 16], [0, 0, 16, 16], [0, 40, 16, 56]]
    tight, found = vote(masks, boxes, [0.5, 0.3, 0.9], [0, 0, 16, 16])  # the half has 5/8, the whole 3/8
    assert tight.tolist() == pytest.approx([0, 0, 16, 8], abs=0.7)
    assert found[:, :7].min() >= 0.5
    tight, found = vote(masks, boxes, [0.4, 0.3, 0.9], [0, 0, 16, 16])  # 4/7 and 3/7: both reach 0.4
    np.testing.assert_allclose(tight, [0, 0, 16, 16], atol=1e-4)
    np.testing.assert_allclose(found[:, 6], 0.5 + (3 / 7 - 0.4) * 0.5 / 0.6, atol=1e-5)
    # With one voter nobody else is asked; and nothing is left of a mask that nobody sees.
    tight, _ = vote(masks, boxes, [0.4, 0.3, 0.9], [0, 0, 16, 16], voters=1)
    assert tight.tolist() == pytest.approx([0, 0, 16, 8], abs=0.7)
    tight, found = vote(masks * 0, boxes, [0.4, 0.3, 0.9], [0, 0, 16, 16])
    assert tight.tolist() == [0, 0, 16, 16]
    assert not found.any()


def test_they_convert(run_tflite: Any, to_onnx: Any, run_onnx: Any, parse_tensorrt: Any) -> None:
    """Boxes that hang on the image, moved, masked and voted on."""
    image = keras.Input((12, 14, 3), name="image")
    means = ops.mean(image, axis=(1, 2), keepdims=True)[..., :1]
    start = np.array([[[1.0, 1, 9, 12], [1, 2, 9, 13], [3, 0, 11, 6]]], np.float32)
    boxes = ops.reshape(means * 0, (-1, 1, 1)) + start
    numbers = boxes[:, :, None] * 0.02 + np.zeros((3, 4), np.float32)
    logits = boxes[..., :3]
    refined = RefineBoxes(name="refined")(image, boxes, numbers, logits)
    features = ops.concatenate([ops.reshape(image[:, :, :12], (-1, 1, 12, 12, 3))] * 3, axis=1)
    masks = ops.sigmoid(features[:, :, :7, :7, 0])
    masked = ops.mean(MaskedFeatures(name="masked")(features, masks), axis=(2, 3))
    tight, voted = MaskVoting(2, name="voting")(
        refined[:, :2], boxes[:, :2, 1] * 0 + 1.0, ops.cast(boxes[:, :2, 1] * 0 + 1, "int32"), refined,
        boxes[..., 0] * 0 + 1, ops.softmax(logits), masks,
    )  # fmt: skip
    flat = [ops.reshape(part, (-1, int(np.prod(part.shape[1:])))) for part in (refined, masked, tight, voted)]
    model = keras.Model(image, ops.concatenate(flat, axis=1))
    x = np.random.default_rng(2).normal(size=(1, 12, 14, 3)).astype(np.float32)
    expected = ops.convert_to_numpy(model(x))
    proto = to_onnx(model, (1, 12, 14, 3))
    np.testing.assert_allclose(run_onnx(proto, x), expected, atol=2e-5)
    assert parse_tensorrt(proto) == []
    np.testing.assert_allclose(run_tflite(model, x), expected, atol=2e-5)


def test_they_are_read_back() -> None:
    for layer in (
        RefineBoxes(False, 0.1),
        MaskedFeatures(),
        RightMasks(),
        MaskVoting(5),
        Proposals(9, 3, gradient=1.0),
    ):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
