"""From what a network says of anchors and proposals to boxes, and masks as their targets."""

from __future__ import annotations

import numpy as np
from keras import ops

from kseg.layers.detection import Detections, MaskTargets, Proposals, TightBoxes

IMAGE = np.zeros((1, 60, 80, 3), np.float32)
LEVELS = [
    np.array([[[0, 0, 10, 10], [2, 0, 12, 10], [40, 40, 50, 50]]], np.float32),
    np.array([[[0, 0, 10, 10], [30, 60, 90, 120]]], np.float32),
]


def test_proposals_are_thinned_level_by_level_and_cut_to_the_image() -> None:
    logits = [np.array([[2.0, 1.0, 0.0]], np.float32), np.array([[3.0, -1.0]], np.float32)]
    numbers = [np.zeros((1, 3, 4), np.float32), np.zeros((1, 2, 4), np.float32)]
    numbers[0][0, 2] = (0.5, 0, 0, np.log(2))
    boxes, real = (
        ops.convert_to_numpy(item) for item in Proposals(3, 6, threshold=0.5)(IMAGE, logits, numbers, LEVELS)
    )
    assert real.tolist() == [[1, 1, 1, 1, 0, 0]]
    expected = [[0, 0, 10, 10], [0, 0, 10, 10], [45, 35, 55, 55], [30, 60, 60, 80]]
    np.testing.assert_allclose(boxes[0, :4], expected, atol=1e-4)
    assert not boxes[0, 4:].any()
    *_, anchors = Proposals(3, 6, threshold=0.5, with_anchors=True)(IMAGE, logits, numbers, LEVELS)
    assert np.asarray(anchors)[0, :4].tolist() == [3, 0, 2, 4]


def test_small_boxes_are_no_proposals() -> None:
    numbers = [np.full((1, 3, 4), -9, np.float32), np.full((1, 2, 4), -9, np.float32)]
    _, real = Proposals(3, 4)(
        IMAGE, [np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)], numbers, LEVELS
    )
    assert not ops.convert_to_numpy(real).any()


def test_detections_are_thinned_class_by_class() -> None:
    proposals = np.array([[[0, 0, 20, 20], [1, 0, 21, 20], [30, 30, 50, 50], [0, 0, 9, 9]]], np.float32)
    logits = np.log(
        np.array([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.1, 0.1, 0.8]]], np.float32)
    )
    numbers = np.zeros((1, 4, 2, 4), np.float32)
    numbers[0, 2, 1] = (1, 0, 0, 0)  # a tenth of its side down
    layer = Detections(5, least_score=0.3)
    boxes, scores, classes = (
        ops.convert_to_numpy(item)
        for item in layer(IMAGE, proposals, np.array([[1.0, 1, 1, 0]], np.float32), logits, numbers)
    )
    np.testing.assert_allclose(scores, [[0.8, 0.6, 0, 0, 0]], atol=1e-5)
    assert classes.tolist() == [[1, 2, 0, 0, 0]]
    np.testing.assert_allclose(boxes[0, :2], [[0, 0, 20, 20], [32, 30, 52, 50]], atol=1e-4)


def test_mask_targets() -> None:
    """A true mask whose left half is the object; boxes on it, half beside it, and beyond."""
    true_boxes = np.array([[[0, 0, 0, 0], [10, 20, 30, 60]]], np.float32)
    true_masks = np.zeros((1, 2, 28, 28), np.uint8)
    true_masks[0, 1, :, :14] = 1
    boxes = np.array([[[10, 20, 30, 60], [10, 20, 30, 40], [10, 0, 30, 40], [40, 70, 50, 80]]], np.float32)
    found = ops.convert_to_numpy(MaskTargets(8)(boxes, np.ones((1, 4), np.int32), true_boxes, true_masks))
    left, every = np.zeros((8, 8)), np.ones((8, 8))
    left[:, :4] = 1
    np.testing.assert_array_equal(found[0, 0], left)
    np.testing.assert_array_equal(found[0, 1], every)
    np.testing.assert_array_equal(found[0, 2], every - left)
    assert not found[0, 3].any()


def test_they_are_read_back() -> None:
    for layer in (Proposals(100, 20, steps=8), Detections(30, 0.3, 0.1), MaskTargets(28)):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_boxes_are_drawn_in_to_their_masks() -> None:
    """A mask in a part of its box, one that is nowhere sure, and a row that fills up."""
    boxes = np.array([[[10, 20, 38, 76], [0, 0, 14, 28], [0, 0, 0, 0]]], np.float32)
    masks = np.zeros((1, 3, 28, 28), np.float32)
    masks[0, 0, 7:21, 14:] = 0.9
    masks[0, 1] = 0.4
    tight, found = (ops.convert_to_numpy(item) for item in TightBoxes()(boxes, masks))
    np.testing.assert_allclose(tight[0], [[17, 48, 31, 76], [0, 0, 14, 28], [0, 0, 0, 0]], atol=1e-5)
    # The samples next to the mask's own border take half a cell of what is beyond.
    assert (found[0, 0] >= 0.5).all()
    np.testing.assert_allclose(found[0, 0, 1:-1, 1:], 0.9, atol=1e-5)
    np.testing.assert_allclose(found[0, 1], 0.4, atol=1e-5)
    assert np.isfinite(found).all()


def test_tight_boxes_end_within_their_boxes() -> None:
    """The sum of all cells of some is rounded to behind their ends, where the image may end."""
    start, end = np.linspace(0, 50, 400, dtype=np.float32), np.full(400, 64, np.float32)
    assert (start + 28 * ((end - start) / np.float32(28)) > end).any()
    boxes = np.stack([start, start, end, end], axis=-1)[None]
    tight = ops.convert_to_numpy(TightBoxes()(boxes, np.ones((1, 400, 28, 28), np.float32))[0])
    np.testing.assert_allclose(tight, boxes, atol=1e-5)
    assert tight.max() == 64
