"""Recall of proposals by hand: boxes and masks, the first N, crowds left out."""

from __future__ import annotations

import json

import numpy as np
import objects
import pytest

from kseg.data.run_lengths import Masks
from kseg.errors import UsageError
from kseg.metrics import ProposalRecall

OBJECTS = [objects.square(0, 0, 10, 20), objects.square(20, 0, 10, 20), objects.square(40, 0, 10, 20)]
CROWD = objects.square(0, 40, 30, 30)
SAMPLE = objects.sample("x", [*OBJECTS, CROWD], [1, 2, 3, 1], [False, False, False, True])
# IoU 0.8 with the first; nothing; 0.55 with the second; the crowd; the third as it is.
PROPOSALS = [
    objects.square(0, 0, 8, 20),
    objects.square(50, 50, 5, 5),
    objects.square(20, 0, 10, 11),
    CROWD,
    OBJECTS[2],
]


@pytest.mark.parametrize("as_boxes", [False, True])
def test_by_hand(as_boxes: bool) -> None:
    masks = Masks.from_masks(PROPOSALS, objects.SIZE)
    recall = ProposalRecall((1, 4, 5, 100))
    recall.add(SAMPLE, masks.boxes() if as_boxes else masks)
    found = recall.scores()
    assert json.loads(json.dumps(found)) == found
    assert [found[f"recall@{n}"] for n in recall.numbers] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    # 0.8 reaches 7 of the 10 levels, 0.55 two, 1 all.
    wanted = [7 / 30, 9 / 30, 19 / 30, 19 / 30]
    assert [found[f"average_recall@{n}"] for n in recall.numbers] == pytest.approx(wanted)
    assert (found["images"], found["objects"], found["proposals"]) == (1, 3, 5)


def test_boxes_and_masks_differ_where_the_shape_does() -> None:
    """An L in the box of a full square is a third short of it."""
    corner = objects.square(0, 0, 20, 20) & ~objects.square(5, 5, 15, 15)
    one = objects.sample("x", [corner], [1])
    by_box, by_mask = ProposalRecall((1,)), ProposalRecall((1,))
    by_box.add(one, np.array([[0, 0, 20, 20]]))
    by_mask.add(one, Masks.from_masks([objects.square(0, 0, 20, 20)], objects.SIZE))
    assert (by_box.scores()["recall@1"], by_mask.scores()["recall@1"]) == (1.0, 0.0)


def test_merging_is_counting_in_one() -> None:
    rng = np.random.default_rng(0)
    pairs = objects.random_pairs(12, seed=3)
    whole, parts = ProposalRecall((2, 5)), [ProposalRecall((2, 5)) for _ in range(2)]
    for index, (one, detections) in enumerate(pairs):
        proposals = detections.masks[rng.permutation(len(detections))]
        whole.add(one, proposals)
        parts[index % 2].add(one, proposals)
    assert (parts[0] + parts[1]).scores() == whole.scores()
    assert 0 < whole.scores()["average_recall@2"] < whole.scores()["recall@5"] < 1


def test_no_object_and_no_proposal() -> None:
    recall = ProposalRecall((10,))
    assert recall.scores()["recall@10"] is None
    recall.add(objects.sample("y", [CROWD], [1], [True]), Masks.from_masks(PROPOSALS, objects.SIZE))
    assert recall.scores()["recall@10"] is None
    recall.add(SAMPLE, np.zeros((0, 4)))
    recall.add(SAMPLE, Masks.from_masks([], objects.SIZE))
    found = recall.scores()
    assert (found["recall@10"], found["objects"], found["images"]) == (0.0, 6, 3)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="must rise"):
        ProposalRecall((100, 100))
    with pytest.raises(UsageError, match="positive integer"):
        ProposalRecall((0,))
    with pytest.raises(UsageError, match="its proposals are for 3x4"):
        ProposalRecall().add(SAMPLE, Masks.from_masks([], (3, 4)))
    with pytest.raises(UsageError, match="same numbers"):
        ProposalRecall((1,)) + ProposalRecall((2,))
