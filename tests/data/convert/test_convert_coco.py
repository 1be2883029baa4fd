"""COCO to a kseg folder: what is written is what was read, by the one reader of its records."""

from __future__ import annotations

import json
from pathlib import Path

import foreign
import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.errors import DataError


def _turned(root: Path, name: str, orientation: int, stored: tuple[int, int]) -> None:
    tag = Image.Exif()
    tag[274] = orientation
    Image.fromarray(np.zeros((*stored, 3), np.uint8)).save(root / name, exif=tag)


@pytest.mark.parametrize("said", [None, "as_stored"])
def test_what_is_known_of_turned_images_goes_with_them(said: str | None, tmp_path: Path) -> None:
    """A picture upside down: its size tells nothing, that of a quarter turn does, and a file may say it."""
    root = tmp_path / "from"
    foreign.coco(root)
    train = root / "train2017"
    document = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    _turned(train, "000000000009.jpg", 3, foreign.SIZE)
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        values = json.loads(file.read_text())
        file.write_text(json.dumps(values if said is None else {"mask_orientation": said, **values}))
    for semantic in (False, True):
        out = tmp_path / f"out-{semantic}"
        done = data.convert(root, "coco", out, semantic=semantic)
        file = out / ("classes.json" if semantic else "instances_train.json")
        assert json.loads(file.read_text()).get("mask_orientation") == said
        assert any("nothing tells" in note for note in done.notes) == (said is None)
        if said is None:
            with pytest.raises(DataError, match="EXIF orientation 3"):
                data.open(out).stored("train", 0)  # type: ignore[attr-defined]
        else:
            assert data.open(out).stored("train", 0)[0].mask.shape == foreign.SIZE  # type: ignore[attr-defined]
    # A second picture of a quarter turn, labelled as it is shown.
    _turned(train, "10.jpg", 6, foreign.SIZE[::-1])
    document["images"].append(
        {"id": 10, "file_name": "10.jpg", "height": foreign.SIZE[0], "width": foreign.SIZE[1]}
    )
    if said is None:
        (root / "annotations" / "instances_train2017.json").write_text(json.dumps(document))
        done = data.convert(root, "coco", tmp_path / "told")
        told = json.loads((tmp_path / "told" / "instances_train.json").read_text())
        assert told["mask_orientation"] == "as_shown"
        assert data.check(tmp_path / "told").ok


def test_boxes_only_are_left_out_and_counted(tmp_path: Path) -> None:
    foreign.coco(tmp_path / "from")
    file = tmp_path / "from" / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    document["annotations"][1]["segmentation"] = []
    file.write_text(json.dumps(document))
    done = data.convert(tmp_path / "from", "coco", tmp_path / "out")
    assert done.dropped["annotations that cover no pixel (boxes, or polygons of two points)"] == 1
    written = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    assert [(entry["category_id"], entry.get("area")) for entry in written["annotations"]] == [
        (7, 12.0),
        (7, None),
    ]
    assert data.check(tmp_path / "out").ok
