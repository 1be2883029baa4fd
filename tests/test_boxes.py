"""Boxes: their geometry by hand, and against the pixels that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from kseg.boxes import areas, bounds, clipped, cut, enlarge, from_corners, iou, of_ids, scaled, sides, windows
from kseg.errors import UsageError


def test_corner_and_size_to_two_corners() -> None:
    assert from_corners([[3, 1, 10, 5]]).tolist() == [[1, 3, 6, 13]]
    assert from_corners(np.zeros((0, 4))).shape == (0, 4)
    assert sides(np.array([[1, 3, 6, 13]])).tolist() == [[5, 10]]
    assert areas(np.array([[1, 3, 6, 13], [0, 0, 0, 0]])).tolist() == [50, 0]


def test_boxes_of_ids_are_those_of_their_pixels_on_any_layer() -> None:
    rng = np.random.default_rng(0)
    layers = np.where(rng.random((2, 9, 12)) < 0.4, rng.integers(1, 8, (2, 9, 12)), 0)
    layers[layers == 4] = 0
    boxes = of_ids(layers, 9)
    assert boxes.dtype == np.int32
    for index, box in enumerate(boxes, start=1):
        mask = (layers == index).any(axis=0)
        if not mask.any():
            assert box.tolist() == [0, 0, 0, 0]
            continue
        rows, columns = bounds(mask)
        assert box.tolist() == [rows.start, columns.start, rows.stop, columns.stop]
        assert mask[rows, columns].sum() == mask.sum()
    assert (areas(boxes) == 0).tolist() == [index in (4, 8, 9) for index in range(1, 10)]


def test_clipped_and_scaled_boxes_stay_inside_and_hold_what_they_held() -> None:
    boxes = np.array([[-3, 2, 4, 99], [1, 1, 3, 3]])
    assert clipped(boxes, (10, 20)).tolist() == [[0, 2, 4, 20], [1, 1, 3, 3]]
    assert scaled(np.array([[1, 2, 3, 4]]), (10, 10), (20, 30)).tolist() == [[2, 6, 6, 12]]
    assert scaled(np.array([[1, 2, 3, 4]]), (10, 10), (5, 5)).tolist() == [[0, 1, 2, 2]]
    assert scaled(np.array([[0, 0, 3, 3]]), (3, 3), (10, 10)).tolist() == [[0, 0, 10, 10]]


def test_enlarged_boxes_keep_their_center() -> None:
    boxes = np.array([[10, 20, 20, 60], [0, 0, 1, 1], [5, 5, 8, 9]])
    assert np.array_equal(enlarge(boxes, 1), boxes)
    assert enlarge(boxes, 1.2)[0].tolist() == [9, 16, 21, 64]
    grown = enlarge(boxes, 1.2, min_side=10)
    assert ((grown[:, 2:] - grown[:, :2]) >= 10).all()
    assert (grown[:, :2] <= boxes[:, :2]).all()
    assert (grown[:, 2:] >= boxes[:, 2:]).all()
    assert np.abs((grown - boxes).reshape(3, 2, 2).sum(axis=1)).max() <= 1
    assert enlarge(np.zeros((0, 4)), 1.2).shape == (0, 4)
    with pytest.raises(UsageError, match="1 to 10"):
        enlarge(boxes, 0.9)


def test_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]])
    assert iou(boxes, boxes).tolist() == [[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 1]]
    assert iou(boxes, np.zeros((0, 4))).shape == (3, 0)


@pytest.mark.parametrize("box", [(-2, -3, 2, 2), (1, 1, 3, 3), (3, 3, 9, 9), (-9, 0, -5, 3), (7, 7, 9, 9)])
def test_cut_pads_what_lies_outside(box: tuple[int, int, int, int]) -> None:
    values = np.arange(1, 25, dtype=np.uint8).reshape(4, 6)
    far = 12
    canvas = np.zeros((4 + 2 * far, 6 + 2 * far), np.uint8)
    canvas[far:-far, far:-far] = values
    wanted = canvas[box[0] + far : box[2] + far, box[1] + far : box[3] + far]
    part = cut(values, np.array(box), 0)
    assert part.dtype == np.uint8
    assert np.array_equal(part, wanted)
    inside, within = windows(np.array(box), (4, 6))
    assert np.array_equal(part[within], values[inside])
    color = cut(np.repeat(values[..., None], 3, axis=2), np.array(box), (7, 8, 9))
    assert np.array_equal(color[..., 0] == 7, wanted == 0) or (values[inside] == 7).any()


def test_boxes_between_pixels_are_not_cut_to_whole_ones() -> None:
    small = np.array([[0, 0, 0.5, 0.5]])
    assert iou(small, small).tolist() == [[1.0]]
    assert areas(np.array([[0.9, 0.9, 2.1, 2.1]])) == pytest.approx([1.44])
    assert clipped(np.array([[-0.5, 10.7, 20.9, 30.2]]), (15, 25)).tolist() == [[0, 10.7, 15, 25]]
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]


def test_scaled_boxes_are_inside_the_image() -> None:
    outside = np.array([[130, 130, 140, 140], [-5, -5, 5, 5], [90, 90, 120, 120]], np.int32)
    assert scaled(outside, (100, 100), (50, 50)).tolist() == [
        [50, 50, 50, 50], [0, 0, 3, 3], [45, 45, 50, 50],
    ]  # fmt: skip
    assert scaled(outside, (100, 100), (100, 100))[2].tolist() == [90, 90, 100, 100]
