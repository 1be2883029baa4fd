"""What people see of found objects: files, tables, the page of a report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from oracle import SPEC, Oracle, blobs
from PIL import Image

from kseg.errors import UsageError
from kseg.instance import pictures, scoring, tables
from kseg.instance.predictor import InstancePredictor
from kseg.instance.report_page import page
from kseg.spec import Spec

SAMPLE = blobs("a", (64, 64), [(20, 24, 8), (45, 12, 6), (40, 50, 10)])


def test_files_of_a_prediction(tmp_path: Path) -> None:
    found = InstancePredictor(Oracle())(SAMPLE.image)[0]
    for kind, ending in pictures.KINDS.items():
        pictures.write(kind, tmp_path / f"a{ending}", SAMPLE.image, found, SPEC)
    ids = np.asarray(Image.open(tmp_path / "a_ids.png"))
    assert sorted(np.unique(ids)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(ids > 0, np.any([found.mask(i) for i in range(3)], axis=0))
    drawn = np.asarray(Image.open(tmp_path / "a_objects.jpg"))
    assert drawn.shape == (64, 64, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20
    results = json.loads((tmp_path / "a_coco.json").read_text())
    assert [entry["category"] for entry in results] == ["blob"] * 3
    mask_utils = pytest.importorskip("pycocotools.mask")
    for index, entry in enumerate(results):
        code = mask_utils.frPyObjects(entry["segmentation"], 64, 64)
        np.testing.assert_array_equal(mask_utils.decode(code).astype(bool), found.mask(index))
    assert pictures.describe(found, SPEC) == {"objects": {"blob": 3}}


def test_unsure_objects_are_in_the_json_only(tmp_path: Path) -> None:
    found = InstancePredictor(Oracle())(SAMPLE.image)[0]
    unsure = type(found)(found.boxes, found.scores - 0.9, found.classes, found.masks)
    pictures.write("ids", tmp_path / "a_ids.png", SAMPLE.image, unsure, SPEC)
    assert not np.asarray(Image.open(tmp_path / "a_ids.png")).any()
    assert len(pictures.coco_results(unsure, SPEC)) == 3


def test_tables_and_page() -> None:
    scorer, _ = scoring.scorer(SPEC, [SAMPLE])
    found = InstancePredictor(Oracle())(SAMPLE.image)[0]
    scorer.add(SAMPLE, found[:2])
    said = tables.tables(scorer, SPEC)
    assert said.record["objects"] == 3
    assert said.tables[0].rows[0][0] == "blob"
    assert dict(said.tables[2].rows)["objects that are missed"] == "1"
    shown = page([("a <b>", SAMPLE.image, SAMPLE.instances, found[:2])], {"val": scorer}, SPEC)
    assert [what for _, what in shown.cards] == ["mask AP, val", "mask AP50, val", "box AP, val"]
    assert "a &lt;b&gt;" in shown.examples
    for layer in ("image", "truth", "prediction", "errors"):
        assert f'data-layer="{layer}"' in shown.examples
    assert "blob" in shown.tables


def test_other_classes_are_refused() -> None:
    class Others(list):
        spec = SPEC.replace(classes=("background", "cell"))

    with pytest.raises(UsageError, match="finds blob; the data has cell"):
        scoring.scorer(SPEC, Others([SAMPLE]))


def test_label_maps_are_refused_as_such() -> None:
    class Maps(list):
        spec = Spec(classes=("sky", "road"), data={"source": "streets", "instances": False})

    with pytest.raises(UsageError, match="the data, streets, has label maps, not instances"):
        scoring.scorer(SPEC, Maps([SAMPLE]))
