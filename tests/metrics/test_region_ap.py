"""AP^r by hand, and against pycocotools where the protocols meet."""

from __future__ import annotations

import numpy as np
import objects
import pytest

from kseg.data.detections import Detections
from kseg.data.run_lengths import Masks
from kseg.metrics.instances.coco import coco_table
from kseg.metrics.instances.region_ap import (
    VOLUME,
    average_precision,
    matches,
    precision_recall,
    region_curves,
)

SQUARES = [objects.square(0, 0, 10, 20), objects.square(20, 0, 10, 20), objects.square(40, 0, 10, 20)]


def curve(truth, masks, scores, crowd=None):
    one = objects.sample("x", truth, [1] * len(truth), crowd)
    found = Detections.from_masks(masks, scores, [1] * len(masks), objects.SIZE)
    return region_curves([objects.scene(one, found)], 2)[0]


def test_truth_as_detections_is_one_at_any_iou() -> None:
    found = curve(SQUARES, SQUARES, [1, 1, 1])
    assert [found.ap(above) for above in (*VOLUME, 0.99)] == [1.0] * 10
    assert found.volume() == 1.0


def test_masks_shifted_to_an_iou_of_045_are_nothing_at_05() -> None:
    """29 pixels wide and moved by 11: 18 in common of 40."""
    wide = [objects.square(y, 10, 10, 29) for y in (0, 20, 40)]
    found = curve(wide, [np.roll(mask, 11, 1) for mask in wide], [3, 2, 1])
    assert (found.ap(0.5), found.ap(0.45), found.ap(0.45 - 1e-9)) == (0.0, 0.0, 1.0)
    assert found.volume() == pytest.approx(4 / 9)


def test_an_iou_of_exactly_the_threshold_is_no_hit() -> None:
    half = [objects.square(0, 0, 5, 20)]
    assert curve(SQUARES[:1], half, [1]).ap(0.5) == 0.0
    assert curve(SQUARES[:1], half, [1]).ap(0.5 - 1e-9) == 1.0
    third = [objects.square(0, 0, 3, 20)]
    assert curve(SQUARES[:1], third, [1]).ap(VOLUME[2]) == 0.0


def test_area_under_the_monotone_curve_by_hand() -> None:
    """Hits 1 0 1 1 of 4 objects: precision 1, 1/2, 2/3, 3/4 becomes 1, 3/4, 3/4, 3/4; one is missed."""
    hits = np.array([1, 0, 1, 1], bool)
    precision, recall = precision_recall(hits, 4)
    assert precision.tolist() == [1, 0.75, 0.75, 0.75]
    assert recall.tolist() == [0.25, 0.25, 0.5, 0.75]
    assert average_precision(hits, 4) == 0.25 + 0.25 * 0.75 + 0.25 * 0.75
    assert average_precision(np.zeros(0, bool), 4) == 0.0


def test_a_detection_takes_the_best_object_that_is_left() -> None:
    """The second overlaps the covered object more, and the other enough: a hit in SDS, a miss in MNC."""
    shares = np.array([[0.9, 0.55], [0.8, 0.6], [0.7, 0.2]])
    assert matches(shares, 0.5).tolist() == [0, 1, -1]
    assert matches(shares, 0.65).tolist() == [0, -1, -1]


def test_crowds_are_neither_hit_nor_miss() -> None:
    crowd = objects.square(0, 40, 30, 30)
    inside, outside = objects.square(0, 40, 10, 10), objects.square(40, 60, 10, 10)
    truth, flags = [SQUARES[0], crowd], [False, True]
    assert curve(truth, [inside, inside, SQUARES[0]], [3, 2, 1], flags).ap() == 1.0
    assert curve(truth, [outside, inside, SQUARES[0]], [3, 2, 1], flags).ap() == 0.5
    assert curve([crowd], [inside], [1], [True]).ap() is None


def test_scores_are_sorted_over_the_set() -> None:
    """A miss in one image that is surer than the hit in the other halves the precision there."""
    first, second = (objects.sample(name, SQUARES[:1], [1]) for name in "ab")
    miss = Detections.from_masks(SQUARES[1:2], [0.9], [1], objects.SIZE)
    hit = Detections.from_masks(SQUARES[:1], [0.8], [1], objects.SIZE)
    found = region_curves([objects.scene(first, miss), objects.scene(second, hit)], 2)[0]
    assert found.ap() == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_cocos_where_the_protocols_meet(seed: int) -> None:
    """Read at COCO's 101 recalls, the curve gives COCO's number, just below an IoU for just at it."""
    scenes = [objects.scene(*pair) for pair in objects.random_pairs(40, seed)]
    table = coco_table(scenes, 4, "mask", 400)
    for kind, found in enumerate(region_curves(scenes, 4), start=1):
        for iou in (0.5, 0.7, 0.9):
            precision, recall = precision_recall(found.hits(iou - 1e-9), found.objects)
            places = np.searchsorted(recall, np.linspace(0, 1, 101))
            read = np.append(precision, 0.0)[np.minimum(places, len(precision))].mean()
            assert read == pytest.approx(table.ap(iou, kind=kind), abs=1e-12)
            assert found.ap(iou - 1e-9) == pytest.approx(read, abs=0.02)


def test_detections_without_a_pixel_are_misses() -> None:
    one = objects.sample("x", SQUARES[:1], [1])
    masks = Masks.from_masks([np.zeros(objects.SIZE, bool), SQUARES[0]], objects.SIZE)
    found = Detections.of(masks, [2, 1], [1, 1])
    assert region_curves([objects.scene(one, found)], 2)[0].ap() == 0.5
