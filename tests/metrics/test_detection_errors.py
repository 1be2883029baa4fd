"""Each kind of error, made by hand."""

from __future__ import annotations

import numpy as np
import objects

from kseg.data.detections import Detections
from kseg.metrics.instances.errors import VERDICTS, count_errors, judged, verdicts

CAT, DOG, COW = 1, 2, 3
TRUTH = objects.sample(
    "x",
    [objects.square(0, 0, 10, 10), objects.square(0, 30, 10, 10), objects.square(30, 0, 20, 20)],
    [CAT, DOG, CAT],
    [False, False, True],
)
# In falling score: kind, mask, class.
FOUND = [
    ("correct", objects.square(0, 0, 10, 10), CAT),
    ("duplicate", objects.square(0, 0, 10, 9), CAT),
    ("mislocalised", objects.square(0, 0, 10, 5), CAT),
    ("wrong_class", objects.square(0, 30, 10, 10), CAT),
    ("wrong_class", objects.square(0, 30, 10, 2), COW),
    ("background", objects.square(0, 30, 10, 1), DOG),
    ("background", objects.square(40, 60, 10, 10), CAT),
    ("crowd", objects.square(30, 0, 10, 10), CAT),
    ("background", objects.square(30, 0, 10, 10), DOG),
]


def detections() -> Detections:
    masks, classes = [mask for _, mask, _ in FOUND], [kind for _, _, kind in FOUND]
    return Detections.from_masks(masks, np.arange(len(FOUND), 0, -1), classes, objects.SIZE)


def test_each_kind() -> None:
    scene = objects.scene(TRUTH, detections())
    found, missed = verdicts(scene, np.ones(len(FOUND), bool))
    assert [VERDICTS[index] for index in found] == [name for name, _, _ in FOUND]
    # The dog; the cat is covered, and a crowd is nothing to miss.
    assert missed.tolist() == [False, True, False]


def test_verdicts_on_one_image_by_name_and_id() -> None:
    found, missed = judged(TRUTH.instances, detections())
    assert (found, missed.tolist()) == ([name for name, _, _ in FOUND], [2])
    nothing = Detections.from_masks([], [], [], objects.SIZE)
    found, missed = judged(TRUTH.instances, nothing)
    assert (found, missed.tolist()) == ([], [1, 2])
    # An object without a pixel keeps its id and is not missed.
    hidden = objects.sample("x", [np.zeros(objects.SIZE, bool), objects.square(0, 0, 5, 5)], [CAT, CAT])
    assert judged(hidden.instances, nothing)[1].tolist() == [2]


def test_counts_per_class_of_the_detections_that_count() -> None:
    scene = objects.scene(TRUTH, detections())
    whole = count_errors([scene, scene], 4)
    assert whole.tolist() == [[2, 2, 2, 2, 2, 2, 0], [0, 0, 0, 0, 0, 4, 2], [0, 0, 0, 0, 2, 0, 0]]
    surest = count_errors([scene], 4, at_least=8)
    assert surest.sum(axis=0).tolist() == [1, 1, 0, 0, 0, 0, 1]
    np.testing.assert_array_equal(count_errors([scene], 4, best=2), surest)
    assert count_errors([scene], 4, best=0).sum(axis=0).tolist() == [0, 0, 0, 0, 0, 0, 2]


def test_a_crowd_of_the_class_comes_before_a_slight_overlap() -> None:
    """More than half in a crowd excuses what would be mislocalised."""
    one = objects.sample(
        "x", [objects.square(0, 0, 10, 10), objects.square(0, 10, 30, 30)], [CAT, CAT], [False, True]
    )
    found = Detections.from_masks([objects.square(0, 7, 10, 10)], [1], [CAT], objects.SIZE)
    kinds, missed = verdicts(objects.scene(one, found), np.ones(1, bool))
    assert [VERDICTS[index] for index in kinds] == ["crowd"]
    assert missed.tolist() == [True, False]


def test_images_without_objects_or_detections() -> None:
    nothing = Detections.from_masks([], [], [], objects.SIZE)
    empty = objects.sample("y", [], [])
    assert count_errors([objects.scene(TRUTH, nothing)], 4).sum(axis=0).tolist() == [0] * 6 + [2]
    assert count_errors([objects.scene(empty, detections())], 4).sum(axis=0).tolist() == [0] * 5 + [9, 0]
