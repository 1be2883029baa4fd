"""COCO's tables are those of COCOeval as it is, number for number."""

from __future__ import annotations

import numpy as np
import objects
import pytest
from pycocotools.cocoeval import COCOeval

from kseg.metrics.instances import coco


@pytest.mark.parametrize("by", ["mask", "box"])
@pytest.mark.parametrize("most", [2, 400])
def test_every_number_is_that_of_cocoeval(
    by: str, most: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Crowds, ties of scores, empty masks, classes without objects: the tables are equal bit for bit."""
    scenes = [objects.scene(*pair) for pair in objects.random_pairs(40, seed=most)]
    found = coco.coco_table(scenes, 5, by, most)
    monkeypatch.setattr(coco, "_Evaluation", COCOeval)
    wanted = coco.coco_table(scenes, 5, by, most)
    np.testing.assert_array_equal(found.precision, wanted.precision)
    np.testing.assert_array_equal(found.recall, wanted.recall)
    assert 0.1 < wanted.ap() < 0.9
    assert wanted.ap(kind=4) is None
    assert wanted.ap(area="medium") != wanted.ap(area="small")
    assert capsys.readouterr().out == ""


def test_summaries_are_those_of_cocoeval() -> None:
    """COCOeval's own twelve figures, which it gives for 1, 10 and 100 detections."""
    scenes = [objects.scene(*pair) for pair in objects.random_pairs(40, seed=1)]
    found = coco.coco_table(scenes, 4, "mask", 100)
    plain = COCOeval(
        coco._records([entry for i, one in enumerate(scenes) for entry in coco._truth(one, i)], scenes, 4),
        coco._records(
            [entry for i, one in enumerate(scenes) for entry in coco._found(one, i, "mask")], scenes, 4
        ),
    )
    plain.evaluate()
    plain.accumulate()
    plain.summarize()
    mine = [found.ap(), found.ap(0.5), found.ap(0.75), *(found.ap(area=area) for area in coco.AREAS[1:])]
    assert [-1 if value is None else value for value in mine] == plain.stats[:6].tolist()
    assert found.ar() == plain.stats[8]
