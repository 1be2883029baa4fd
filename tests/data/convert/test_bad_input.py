"""Foreign data that is wrong: one line naming file and field, nothing written; `skip_bad` lists it."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest

from kseg import data
from kseg.errors import DataError, UsageError

Change = Callable[[Path], object]


def in_json(name: str, change: Callable[[Any], object]) -> Change:
    """Return a change of one JSON file of the folder."""

    def apply(root: Path) -> None:
        path = root / name
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return apply


def in_text(name: str, old: str, new: str) -> Change:
    def apply(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return apply


def shape(index: int, **fields: Any) -> Callable[[Any], object]:
    return lambda values: values["shapes"][index].update(fields)


def without(key: str, *path: Any) -> Callable[[Any], object]:
    def drop(values: Any) -> None:
        for step in path:
            values = values[step]
        del values[key]

    return drop


def bomb() -> str:
    return base64.b64encode(zlib.compress(bytes(80 * 2**20), 9)).decode()


def wide_png() -> str:
    return base64.b64encode(zlib.compress(foreign.png_bytes(np.zeros((2, 300), np.uint8)))).decode()


def annotation(index: int, **fields: Any) -> Callable[[Any], object]:
    return lambda values: values["annotations"][index].update(fields)


def entry(**fields: Any) -> Callable[[Any], object]:
    return lambda values: values["images"][0].update(fields)


def taller(kept: int) -> Callable[[Any], object]:
    """Say that the image is 99 high, and keep its first annotations: a polygon, then an RLE."""
    return lambda values: (entry(height=99)(values), values.update(annotations=values["annotations"][:kept]))


LABELME = ("labelme", foreign.labelme, "walk_001.json")
SUPER = ("supervisely", foreign.supervisely, "train/ann/a.jpg.json")
COCO = ("coco", foreign.coco, "annotations/instances_train2017.json")
CVAT = ("cvat", foreign.cvat, "annotations.xml")
# name -> (format, maker, file), change, words of the line
FAULTS: dict[str, tuple[tuple[str, Callable[[Path], object], str], Change, list[str]]] = {
    "labelme: no shapes": (LABELME, in_json(LABELME[2], without("shapes")), ["walk_001.json", "`shapes`"]),
    "labelme: two points": (
        LABELME,
        in_json(LABELME[2], shape(0, points=[[1, 1], [2, 2]])),
        ["walk_001.json", "shapes[0]", "`points`", "2 points", "3"],
    ),
    "labelme: point far off": (
        LABELME,
        in_json(LABELME[2], shape(0, points=[[1, 1], [2, 2], [1e9, 4]])),
        ["walk_001.json", "`points`", "1e+09", "far outside"],
    ),
    "labelme: points of text": (
        LABELME,
        in_json(LABELME[2], shape(1, points="here")),
        ["walk_001.json", "shapes[1].points", "list"],
    ),
    "labelme: unknown label": (
        LABELME,
        in_json(LABELME[2], shape(0, label="cot")),
        ["walk_001.json", "`label`", "'cot'", "Did you mean 'cat'?", "Known"],
    ),
    "labelme: unknown shape": (
        LABELME,
        in_json(LABELME[2], shape(0, shape_type="spline")),
        ["walk_001.json", "`shape_type`", "spline", "polygon"],
    ),
    "labelme: another size": (
        LABELME,
        in_json(LABELME[2], lambda values: values.update(imageHeight=99)),
        ["walk_001.json", "`imageHeight`", "99x16", "12x16"],
    ),
    "labelme: mask of another size": (
        LABELME,
        in_json(LABELME[2], shape(3, points=[[2, 8], [9, 10]])),
        ["walk_001.json", "shapes[3]", "`mask`", "3 wide", "8 by 3"],
    ),
    "labelme: mask outside": (
        LABELME,
        in_json(LABELME[2], shape(3, points=[[15, 8], [17, 10]])),
        ["walk_001.json", "shapes[3]", "does not fit"],
    ),
    "labelme: no base64": (
        LABELME,
        in_json(LABELME[2], shape(3, mask="!!")),
        ["walk_001.json", "`mask`", "base64"],
    ),
    "labelme: image gone": (
        LABELME,
        lambda root: (root / "walk_001.jpg").unlink(),
        ["walk_001.json", "`imagePath`", "walk_001.jpg"],
    ),
    "labelme: image cut": (
        LABELME,
        lambda root: (root / "walk_001.jpg").write_bytes((root / "walk_001.jpg").read_bytes()[:300]),
        ["walk_001.jpg", "truncated"],
    ),
    "labelme: no JSON": (
        LABELME,
        lambda root: (root / "walk_001.json").write_text("{"),
        ["walk_001.json", "JSON"],
    ),
    "cvat: unknown label": (
        CVAT,
        in_text("annotations.xml", '<box label="cat"', '<box label="cow"'),
        ["annotations.xml", "'frame_0.png'", "<box> 2", "'cow'"],
    ),
    "cvat: no label": (
        CVAT,
        in_text("annotations.xml", '<box label="cat"', "<box"),
        ["annotations.xml", "<box> 2", "`label` is missing"],
    ),
    "cvat: two points": (
        CVAT,
        in_text("annotations.xml", ";8.00,8.00;0.00,8.00", ""),
        ["annotations.xml", "<polygon> 1", "2 points"],
    ),
    "cvat: no number": (
        CVAT,
        in_text("annotations.xml", 'xtl="2.00"', 'xtl="left"'),
        ["annotations.xml", "`xtl`", "number", "'left'"],
    ),
    "cvat: runs of another size": (
        CVAT,
        in_text("annotations.xml", 'height="4" z_order="3"', 'height="3" z_order="3"'),
        ["annotations.xml", "`rle`", "20 pixels", "15"],
    ),
    "cvat: endless runs": (
        CVAT,
        in_text("annotations.xml", 'rle="', 'rle="99999999999999, '),
        ["annotations.xml", "`rle`", "whole number"],
    ),
    "cvat: a mask outside": (
        CVAT,
        in_text("annotations.xml", 'left="11"', 'left="12"'),
        ["annotations.xml", "<mask> 4", "does not fit"],
    ),
    "cvat: another size": (
        CVAT,
        in_text("annotations.xml", 'height="12"', 'height="13"'),
        ["annotations.xml", "`height`", "13x16", "12x16"],
    ),
    "supervisely: no size": (SUPER, in_json(SUPER[2], without("size")), ["a.jpg.json", "`size`"]),
    "supervisely: unknown class": (
        SUPER,
        in_json(SUPER[2], lambda values: values["objects"][0].update(classTitle="leman")),
        ["a.jpg.json", "objects[0]", "'leman'", "Did you mean 'lemon'?"],
    ),
    "supervisely: a bitmap outside": (
        SUPER,
        in_json(SUPER[2], lambda values: values["objects"][1]["bitmap"].update(origin=[14, 6])),
        ["a.jpg.json", "objects[1]", "does not fit"],
    ),
    "supervisely: a bomb": (
        SUPER,
        in_json(SUPER[2], lambda values: values["objects"][1]["bitmap"].update(data=bomb())),
        ["a.jpg.json", "`bitmap.data`", "unpacks to more than"],
    ),
    "supervisely: a bitmap of another size": (
        SUPER,
        in_json(SUPER[2], lambda values: values["objects"][1]["bitmap"].update(data=wide_png())),
        ["a.jpg.json", "`bitmap.data`", "300 wide", "16 wide"],
    ),
    "coco: RLE of another size": (
        COCO,
        in_json(COCO[2], annotation(1, segmentation={"size": [5, 5], "counts": [25]})),
        ["instances_train2017.json", "000000000009.jpg", "annotation 2", "RLE size"],
    ),
    "coco: unknown category": (
        COCO,
        in_json(COCO[2], annotation(1, category_id=8)),
        ["instances_train2017.json", "000000000009.jpg", "annotation 2", "category 8"],
    ),
    "coco: no segmentation": (
        COCO,
        in_json(COCO[2], without("segmentation", "annotations", 1)),
        ["instances_train2017.json", "000000000009.jpg", "annotation 2", "`segmentation`"],
    ),
    "coco: a half point": (
        COCO,
        in_json(COCO[2], annotation(0, segmentation=[[1, 1, 2, 2, 3, 3, 4]])),
        ["instances_train2017.json", "annotation 1", "7 numbers"],
    ),
    "coco: far off": (
        COCO,
        in_json(COCO[2], annotation(0, segmentation=[[1, 1, 2, 2, 1e9, 3]])),
        ["instances_train2017.json", "annotation 1", "1000000000"],
    ),
    "coco: another size": (
        COCO,
        in_json(COCO[2], taller(1)),
        ["instances_train2017.json", "99x16", "12x16"],
    ),
    "coco: another size than that of an RLE": (
        COCO,
        in_json(COCO[2], taller(2)),
        ["instances_train2017.json", "000000000009.jpg", "annotation 2", "[12, 16]", "[99, 16]"],
    ),
    "coco: image gone": (COCO, in_json(COCO[2], entry(file_name="b.jpg")), ["train2017.json", "'b.jpg'"]),
    "coco: a way out": (
        COCO,
        in_json(COCO[2], entry(file_name="../../train2017/000000000009.jpg")),
        ["train2017.json", "image 9", "`file_name`", "below images/SPLIT"],
    ),
    "voc: unknown id": (
        ("voc", foreign.voc, ""),
        lambda root: foreign.png(
            root / "SegmentationClass" / "2007_000032.png", np.full(foreign.SIZE, 77, np.uint8), palette=True
        ),
        ["2007_000032.png", "ids 77", "0-20"],
    ),
    "voc: mask of another size": (
        ("voc", foreign.voc, ""),
        lambda root: foreign.png(
            root / "SegmentationClass" / "2007_000032.png", np.zeros((5, 6), np.uint8), palette=True
        ),
        ["2007_000032.png", "5x6", "12x16"],
    ),
    "voc: image gone": (
        ("voc", foreign.voc, ""),
        lambda root: (root / "JPEGImages" / "2007_000032.jpg").unlink(),
        ["ImageSets", "'2007_000032'"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_names_file_and_field_and_nothing_is_written(fault: str, tmp_path: Path) -> None:
    (name, make, _), change, words = FAULTS[fault]
    make(tmp_path / "from")
    change(tmp_path / "from")
    with pytest.raises(DataError) as caught:
        data.convert(tmp_path / "from", name, tmp_path / "out")
    line = str(caught.value)
    assert all(word in line for word in words), line
    assert "\n" not in line
    assert os.listdir(tmp_path) == ["from"]


@pytest.mark.parametrize("fault", [name for name in FAULTS if not name.startswith("cvat: another size")])
def test_skip_bad_leaves_out_the_image_and_lists_it(fault: str, tmp_path: Path) -> None:
    (name, make, _), change, words = FAULTS[fault]
    expected = make(tmp_path / "from")
    change(tmp_path / "from")
    everywhere = name == "cvat"  # its three images share the drawing
    if everywhere:
        with pytest.raises(DataError, match="no image with a label that can be read") as caught:
            data.convert(tmp_path / "from", name, tmp_path / "out", skip_bad=True)
        assert all(word in str(caught.value) for word in words)
        return
    done = data.convert(tmp_path / "from", name, tmp_path / "out", skip_bad=True)
    assert len(done.bad) == 1
    assert all(word in done.bad[0] for word in words), done.bad[0]
    assert isinstance(expected, dict)
    assert sum(counts.images for counts in done.counts.values()) == len(expected) - 1


XML = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x">]><annotations>&b;</annotations>'
FOLDERS: dict[str, tuple[str, Change, list[str]]] = {
    "nothing known": (
        "auto",
        lambda root: foreign.image(root, "a.jpg"),
        ["none of the formats", "JPEGImages"],
    ),
    "another format": ("voc", lambda root: foreign.labelme(root), ["no voc folder", "JPEGImages"]),
    "two formats": (
        "auto",
        lambda root: [foreign.voc(root), foreign.labelme(root / "JPEGImages")],
        ["may be", "voc", "labelme", "--format"],
    ),
    "entities": ("cvat", lambda root: foreign.write(root / "annotations.xml", XML), ["entities"]),
    "cut XML": (
        "cvat",
        lambda root: foreign.write(root / "annotations.xml", XML[:21] + "<a>"),
        ["no valid XML"],
    ),
    "CVAT for video": (
        "cvat",
        lambda root: foreign.write(root / "annotations.xml", "<annotations><track id='0'/></annotations>"),
        ["CVAT for video", "1.1"],
    ),
    "full ADE20K": (
        "auto",
        lambda root: foreign.image(root / "images" / "ADE" / "training", "a.jpg"),
        ["full ADE20K", "SceneParse150"],
    ),
    "Cityscapes without ids": (
        "cityscapes",
        lambda root: [
            foreign.image(root / "leftImg8bit" / "train" / "ulm", "ulm_000_leftImg8bit.png"),
            (root / "gtFine").mkdir(),
        ],
        ["labelIds.png", "csCreateTrainIdLabelImgs"],
    ),
    "a damaged labelmap": (
        "cvat",
        lambda root: [foreign.cvat_masks(root), foreign.write(root / "labelmap.txt", "cat:red::\n")],
        ["labelmap.txt", "line 1", "cat:red"],
    ),
    "half a split": (
        "supervisely",
        lambda root: [foreign.supervisely(root), (root / "val").rename(root / "extra")],
        ["1 of 2 images belong to no split", "--split"],
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_are_something_else(case: str, tmp_path: Path) -> None:
    name, make, words = FOLDERS[case]
    make(tmp_path / "from")
    with pytest.raises(DataError) as caught:
        data.convert(tmp_path / "from", name, tmp_path / "out")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert os.listdir(tmp_path) == ["from"]


def test_two_images_of_one_name(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        foreign.image(tmp_path / "from" / "images", f"a.{suffix}")
    foreign.png(tmp_path / "from" / "labels" / "a.png", foreign.ids(0, [0, 1]))
    foreign.write(tmp_path / "from" / "classes.json", '{"classes": ["a", "b"]}')
    with pytest.raises(DataError, match="share one name"):
        data.convert(tmp_path / "from", "kseg", tmp_path / "out")


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    foreign.voc(tmp_path / "from")
    foreign.write(tmp_path / "out" / "mine.txt", "keep")
    with pytest.raises(UsageError, match="not empty"):
        data.convert(tmp_path / "from", "voc", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    data.convert(tmp_path / "from", "voc", tmp_path / "empty")
    assert (tmp_path / "empty" / "classes.json").is_file()


def test_fifos_are_no_images_and_a_link_round_in_a_circle_ends(tmp_path: Path) -> None:
    foreign.labelme(tmp_path / "from")
    (tmp_path / "from" / "again").symlink_to(tmp_path / "from")
    os.mkfifo(tmp_path / "from" / "pipe.jpg")
    os.mkfifo(tmp_path / "from" / "pipe.json")
    data.convert(tmp_path / "from", "labelme", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("pipe*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "vocc"}, ["`format`", "Did you mean 'voc'?"]),
        ({"link": "hardlink"}, ["`link`", "symlink"]),
        ({"unlabeled": "nothing"}, ["`unlabeled`", "background or void"]),
        ({"split": "80-10-10"}, ["`split`", "80/10/10"]),
        ({"split": "0/50/50"}, ["`split`", "train"]),
        ({"split": "nan/1"}, ["`split`"]),
        ({"seed": -1}, ["`seed`"]),
        ({"classes": ["a", "a"]}, ["`classes`", "different"]),
        ({"group_by": "("}, ["`group_by`", "regular expression"]),
        ({"group_by": "20"}, ["`split`"]),
        ({"out": ""}, ["`out`"]),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    foreign.voc(tmp_path / "from")
    given: dict[str, Any] = {"format": "voc", "out": tmp_path / "out", **arguments}
    if given.get("group_by") == "(":
        given["split"] = "50/50"
    with pytest.raises(UsageError) as caught:
        data.convert(tmp_path / "from", **given)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (tmp_path / "out").exists()
