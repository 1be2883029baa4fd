"""The scorer of objects: the protocol of scorers, its scores from their parts, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import objects
import pytest

from kseg.data.detections import Detections
from kseg.errors import DataError, UsageError
from kseg.metrics import InstanceScorer
from kseg.metrics.instances.coco import coco_table
from kseg.metrics.instances.region_ap import region_curves


def scored(pairs, **options):
    scorer = InstanceScorer(objects.CLASSES, **options)
    for one, detections in pairs:
        scorer.add(one, detections)
    return scorer


def perfect(one):
    """Its objects as detections."""
    ids = [index for index in one.instances.ids() if not one.instances.crowd[index - 1]]
    masks = [one.instances.mask(index) for index in ids]
    return Detections.from_masks(
        masks, [1.0] * len(ids), one.instances.classes[np.array(ids, int) - 1], objects.SIZE
    )


def test_truth_as_detections_is_one_everywhere() -> None:
    """With crowds, overlapping objects and objects without a pixel."""
    pairs = [(one, perfect(one)) for one, _ in objects.random_pairs(30, seed=0)]
    scores = scored(pairs).scores()
    assert scores["ap_large"] is None
    names = [name for name in scores if "ap" in name or name.endswith("ar")]
    assert {scores[name] for name in names if not name.endswith("large")} == {1.0}
    assert scores["objects"] == scores["detections"] == sum(len(found) for _, found in pairs)


def test_scores_are_those_of_their_parts() -> None:
    pairs = objects.random_pairs(30, seed=1)
    scorer = scored(pairs)
    scores, scenes = scorer.scores(), [objects.scene(*pair) for pair in pairs]
    masks, boxes = (coco_table(scenes, 4, by, 400) for by in ("mask", "box"))
    assert scores["ap"] == masks.ap() == scorer.comparable()
    assert (scores["ap50"], scores["box_ap75"]) == (masks.ap(0.5), boxes.ap(0.75))
    assert (scores["ap_small"], scores["box_ar"]) == (masks.ap(area="small"), boxes.ar())
    curves = region_curves(scenes, 4)
    assert scores["apr_vol"] == pytest.approx(np.mean([curve.volume() for curve in curves]))
    dog = scores["classes"]["dog"]
    assert (dog["ap"], dog["apr70"], dog["objects"]) == (
        masks.ap(kind=2),
        curves[1].ap(0.7),
        curves[1].objects,
    )
    assert scorer.parts() == {name: masks.ap(kind=kind) for kind, name in enumerate(objects.CLASSES) if kind}
    assert scorer.region_ap(0.7)["dog"] == dog["apr70"]
    assert scorer.region_ap(0.35, by="box")["cow"] == region_curves(scenes, 4, "box")[2].ap(0.35)
    assert scorer.chance() == 0
    assert len({scores["ap"], scores["box_ap"], scores["apr50"], scores["ap50"]}) == 4


def test_parts_in_any_order_merge_to_the_whole() -> None:
    pairs = objects.random_pairs(20, seed=2)
    whole = scored(pairs).summary()
    merged = scored(pairs[12:][::-1]) + pickle.loads(pickle.dumps(scored(pairs[:12])))
    assert merged.summary() == whole
    assert json.loads(json.dumps(whole)) == whole


def test_adding_after_scoring_counts() -> None:
    one = objects.sample("a", [objects.square(0, 0, 10, 10)], [1])
    scorer = scored([(one, perfect(one))])
    assert scorer.comparable() == pytest.approx(1)
    scorer.add(dataclasses.replace(one, name="b"), Detections.from_masks([], [], [], objects.SIZE))
    assert scorer.comparable() == pytest.approx(51 / 101)


def test_only_the_surest_of_a_class_and_image_count() -> None:
    masks = [objects.square(0, 30, 10, 10), objects.square(0, 0, 10, 10)]
    one = objects.sample("a", [masks[1], masks[0]], [1, 2])
    found = Detections.from_masks([*masks, masks[0]], [0.9, 0.8, 0.1], [1, 1, 2], objects.SIZE)
    all_of_them, one_each = scored([(one, found)]), scored([(one, found)], most=1)
    assert all_of_them.parts() == {"cat": pytest.approx(0.5), "dog": pytest.approx(1), "cow": None}
    assert one_each.parts() == {"cat": 0.0, "dog": pytest.approx(1), "cow": None}
    assert one_each.scores()["detections"] == 2


def test_errors_of_confident_detections() -> None:
    one = objects.sample("a", [objects.square(0, 0, 10, 10), objects.square(0, 30, 10, 10)], [1, 2])
    masks = [objects.square(0, 0, 10, 10), objects.square(0, 30, 10, 10), objects.square(30, 0, 10, 10)]
    found = Detections.from_masks(masks, [0.9, 0.6, 0.2], [1, 1, 1], objects.SIZE)
    scorer = scored([(one, found)])
    errors = scorer.summary()["errors"]
    assert errors["at_least"] == 0.5
    assert (errors["correct"], errors["wrong_class"], errors["background"], errors["missed"]) == (1, 1, 0, 1)
    assert errors["classes"]["dog"]["missed"] == 1
    assert scorer.errors()["background"] == 1
    assert scorer.errors(best=1)["wrong_class"] == 0


def test_agreement_of_confident_detections() -> None:
    scorer = InstanceScorer(objects.CLASSES)
    places = [objects.square(0, x, 10, 10) for x in (0, 20, 40)]
    one = Detections.from_masks(places, [0.9, 0.8, 0.4], [1, 1, 1], objects.SIZE)
    # The second a little less sure, the third of another class.
    other = Detections.from_masks(places, [0.9, 0.45, 0.7], [1, 1, 2], objects.SIZE)
    assert scorer.agreement(one, one) == (4, 4)
    assert scorer.agreement(one, other) == scorer.agreement(other, one) == (3, 4)
    nothing = Detections.from_masks([], [], [], objects.SIZE)
    assert scorer.agreement(one, nothing) == (0, 2)
    assert scorer.agreement(nothing, nothing) == (1, 1)


def test_what_cannot_be_scored_is_refused() -> None:
    one = objects.sample("a", [objects.square(0, 0, 10, 10)], [1])
    found, scorer = perfect(one), InstanceScorer(objects.CLASSES)
    with pytest.raises(DataError, match="nothing to score: 0 images"):
        scorer.scores()
    with pytest.raises(DataError, match="'a' has no instances"):
        scorer.add(dataclasses.replace(one, instances=None), found)
    with pytest.raises(DataError, match="instances are 60x80, its image 3x4"):
        scorer.add(dataclasses.replace(one, image=np.zeros((3, 4, 3), np.uint8)), found)
    with pytest.raises(DataError, match="instance of class 7; classes are 1-3"):
        scorer.add(objects.sample("a", [objects.square(0, 0, 9, 9)], [7]), found)
    with pytest.raises(UsageError, match="detections for 3x4"):
        scorer.add(one, Detections.from_masks([], [], [], (3, 4)))
    with pytest.raises(UsageError, match="classes up to 4"):
        scorer.add(one, Detections.from_masks([objects.square(0, 0, 9, 9)], [1], [4], objects.SIZE))
    scorer.add(objects.sample("b", [], []), found)
    with pytest.raises(DataError, match="1 images were given, and none has an object"):
        scorer.scores()
    with pytest.raises(UsageError, match="same classes"):
        scorer + InstanceScorer(objects.CLASSES, most=1)
    with pytest.raises(UsageError, match="at least one class"):
        InstanceScorer(("background",))
