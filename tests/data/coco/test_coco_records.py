"""COCO files with wrong records: all of them are told, with their ids; training refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.cli.main import main
from kseg.data import check
from kseg.data import instances as instance_masks
from kseg.data import open as open_source
from kseg.data.coco import records as coco_records
from kseg.errors import DataError

SIZE = (16, 20)
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def document() -> dict[str, Any]:
    return {
        "images": [
            {"id": index, "file_name": f"{index}.png", "height": SIZE[0], "width": SIZE[1]}
            for index in range(2)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": index, "image_id": index % 2, "category_id": (3, 7)[index % 2], "segmentation": SQUARE}
            for index in range(4)
        ],
    }


def write(root: Path, values: Any) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        for index in range(2):
            pixels = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{index}.png")
        text = json.dumps(values if split == "train" else document())
        (root / f"instances_{split}.json").write_text(text)
    return root


def annotation(**changes: Any) -> Any:
    def change(values: dict[str, Any]) -> None:
        values["annotations"][1].update(changes)

    return change


def image(**changes: Any) -> Any:
    def change(values: dict[str, Any]) -> None:
        values["images"][1].update(changes)

    return change


def without(kind: str, key: str) -> Any:
    def change(values: dict[str, Any]) -> None:
        del values[kind][1][key]

    return change


def record(kind: str, value: Any) -> Any:
    def change(values: dict[str, Any]) -> None:
        values[kind].append(value)

    return change


# What is done to a good file -> code of the finding, which record it names, what is said of it.
FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "id is a list": (annotation(id=[1]), "annotation_record", "annotations[1]", "`id`"),
    "image id is a list": (annotation(image_id=[1]), "annotation_record", "annotation 1", "`image_id`"),
    "category is text": (annotation(category_id="dog"), "annotation_record", "annotation 1", "`category_id`"),
    "category is null": (annotation(category_id=None), "annotation_record", "annotation 1", "`category_id`"),
    "no category": (without("annotations", "category_id"), "annotation_record", "annotation 1", "missing"),
    "crowd of 7": (annotation(iscrowd=7), "annotation_record", "annotation 1", "`iscrowd`"),
    "annotation is text": (record("annotations", "x"), "annotation_record", "annotations[4]", "found text"),
    "annotation is null": (record("annotations", None), "annotation_record", "annotations[4]", "found null"),
    "annotation is a list": (record("annotations", [[]]), "annotation_record", "annotations[4]", "a list"),
    "unknown image": (annotation(image_id=55), "unknown_image", "annotation 1", "names image 55"),
    "unknown category": (annotation(category_id=4), "category_out_of_range", "annotation 1", "category 4"),
    "no segmentation": (without("annotations", "segmentation"), "no_segmentation", "annotation 1", "box"),
    "null segmentation": (annotation(segmentation=None), "no_segmentation", "annotation 1", "box"),
    "empty segmentation": (annotation(segmentation=[]), "no_segmentation", "annotation 1", "box"),
    "number": (annotation(segmentation=17), "bad_segmentation", "annotation 1", "neither polygons nor RLE"),
    "far": (
        annotation(segmentation=[[0, 0, 1e9, 0, 1e9, 5]]),
        "bad_segmentation",
        "annotation 1",
        "10000000",
    ),
    "odd": (annotation(segmentation=[[0, 0, 1, 0, 5]]), "bad_segmentation", "annotation 1", "5 numbers"),
    "other RLE": (
        annotation(segmentation={"size": [3, 3], "counts": [9]}),
        "bad_segmentation",
        "annotation 1",
        "RLE size is [3, 3]",
    ),
    "garbage RLE": (
        annotation(segmentation={"size": list(SIZE), "counts": "~~~garbage"}),
        "bad_segmentation",
        "annotation 1",
        "RLE counts",
    ),
    "endless RLE": (
        annotation(segmentation={"size": list(SIZE), "counts": [2**40]}),
        "bad_segmentation",
        "annotation 1",
        "add up",
    ),
    "negative height": (image(height=-16), "image_record", "image 1", "`height`"),
    "no height": (without("images", "height"), "image_record", "image 1", "missing required field `height`"),
    "huge": (image(height=2**20, width=2**20), "image_record", "image 1", "at most 178,956,970"),
    "name leads out": (image(file_name="../../x.png"), "image_record", "image 1", "below images/SPLIT"),
    "name is absolute": (image(file_name="/etc/x.png"), "image_record", "image 1", "below images/SPLIT"),
    "name with NUL": (image(file_name="a\0.png"), "image_record", "image 1", "below images/SPLIT"),
    "name is a number": (image(file_name=5), "image_record", "image 1", "`file_name`"),
    "image is a number": (record("images", 5), "image_record", "images[2]", "found a whole number"),
    "image twice": (
        record("images", document()["images"][0]),
        "duplicate_image_id",
        "image 0",
        "shares its id",
    ),
    "file twice": (
        record("images", {**document()["images"][0], "id": 9}),
        "duplicate_file_name",
        "image 9",
        "listed twice",
    ),
    "file twice, otherwise written": (
        record("images", {**document()["images"][0], "id": 9, "file_name": ".//0.png"}),
        "duplicate_file_name",
        "image 9",
        "'.//0.png' is listed twice",
    ),
    "category is a list": (record("categories", []), "category_record", "categories[2]", "found a list"),
    "category twice": (
        record("categories", {"id": 3, "name": "x"}),
        "category_record",
        "category 3",
        "twice",
    ),
    "name twice": (record("categories", {"id": 9, "name": "cat"}), "category_record", "category 9", "twice"),
    "no name": (record("categories", {"id": 9, "name": ""}), "category_record", "category 9", "`name`"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_wrong_record_is_one_finding_with_its_id(tmp_path: Path, fault: str) -> None:
    change, code, which, said = FAULTS[fault]
    values = document()
    change(values)
    root = write(tmp_path / "d", values)
    errors = [finding for finding in check(root).findings if finding.severity == "error"]
    if code == "category_record":
        errors = [finding for finding in errors if finding.code != "categories_differ"]
    assert [finding.code for finding in errors] == [code]
    assert errors[0].details["records"][0]["record"] == which
    assert said in errors[0].details["records"][0]["problem"]
    assert which in errors[0].message
    assert errors[0].message.isprintable()
    with pytest.raises(DataError) as caught:
        open_source(root)
    assert which in str(caught.value)
    assert said in str(caught.value)
    assert "kseg check-data" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_record_of_another_size_is_told_before_anything_is_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = document()
    values["images"][1]["width"] = SIZE[1] + 1
    root = write(tmp_path / "d", values)
    painted = []
    whole = instance_masks.stack
    monkeypatch.setattr(
        instance_masks, "stack", lambda masks, *more: painted.append(masks.size) or whole(masks, *more)
    )
    found = [finding for finding in check(root).findings if finding.severity == "error"]
    assert [(finding.code, finding.files) for finding in found] == [("size_mismatch", ["images/train/1.png"])]
    assert "record 16x21, image 16x20 (height x width)" in found[0].message
    assert painted == [SIZE] * 3
    opened = open_source(root)
    for read in (opened.read, opened.read_mask):
        with pytest.raises(DataError, match=r"1.png' is 16x20, its COCO file says 16x21 \(height x width\)"):
            read(opened.items["train"][1])


def test_a_roundabout_name_is_no_unlisted_image(tmp_path: Path) -> None:
    values = document()
    values["images"][1]["file_name"] = "./1.png"
    assert "unlisted_image" not in {finding.code for finding in check(write(tmp_path / "d", values)).findings}


def test_all_wrong_records_are_told_at_once(tmp_path: Path, capsys: Any) -> None:
    values = document()
    for number in range(300):
        values["annotations"].append({**values["annotations"][0], "id": 1000 + number, "segmentation": 5})
    for change in (annotation(id=[2]), image(height=-1), record("annotations", None)):
        change(values)
    root = write(tmp_path / "d", values)
    report = check(root)
    found = {
        finding.code: finding.details["records"]
        for finding in report.findings
        if finding.code in ("bad_segmentation", "annotation_record", "image_record")
    }
    assert [entry["record"] for entry in found["bad_segmentation"]] == [
        f"annotation {1000 + n}" for n in range(300)
    ]
    assert [entry["record"] for entry in found["annotation_record"]] == ["annotations[1]", "annotations[304]"]
    assert [entry["record"] for entry in found["image_record"]] == ["image 1"]
    # What hangs on the broken image is not told again.
    assert "unknown_image" not in {finding.code for finding in report.findings}
    assert main(["train", "--model", "unet", "--data", str(root), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "303 records cannot be used" in said[0]


def test_what_is_odd_is_a_warning_and_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = document()
    values["annotations"][0]["segmentation"] = [*SQUARE, [1, 1, 2, 2], [3, 3, 3, 3, 3, 3]]
    values["annotations"][1]["bbox"] = [15, 10, 30, 4]
    values["annotations"][2] |= {"segmentation": [[-500, 2, 5, 2, 5, 9, -500, 9]], "bbox": "none"}
    values["annotations"][3]["id"] = 2
    root = write(tmp_path / "d", values)
    report = check(root)
    assert report.ok
    found = {finding.code: finding.details.get("records") for finding in report.findings}
    assert found["degenerate_polygon"] == ["annotation 0"]
    assert found["outside_image"] == ["annotation 1", "annotation 2"]
    assert found["duplicate_annotation_id"] == ["2"]
    opened = open_source(root)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "1 annotations have a polygon of fewer than three points" in said[1]
    assert "2 annotations reach out of their image" in said[2]
    assert "instances_train.json, the first: annotation 1. " in said[2]
    assert len(opened.read(opened.items["train"][0]).instances or ()) == 2


# What is done to the folder -> exit code of the check, its code, what both commands say.
MALFORMED: dict[str, tuple[Any, int, str, str]] = {
    "image missing": (
        lambda root: (root / "images/train/1.png").unlink(), 1, "missing_image", "images/train/1.png"
    ),
    "file missing": (
        lambda root: (root / "instances_train.json").unlink(), 1, "no_instances_file", "instances_train.json"
    ),
    "unknown category": (annotation(category_id=4), 1, "category_out_of_range", "category 4"),
    "two points": (annotation(segmentation=[[1, 1, 5, 5]]), 0, "degenerate_polygon", "annotation 1"),
    "a line": (annotation(id=5, segmentation=[[1, 1, 3, 2, 5, 3]]), 0, "degenerate_polygon", "annotation 5"),
    "RLE of another size": (
        annotation(segmentation={"size": [3, 3], "counts": [9]}), 1, "bad_segmentation", "[3, 3]"
    ),
    "image id twice": (image(id=0), 1, "duplicate_image_id", "image 0"),
    "annotation id twice": (annotation(id=0), 0, "duplicate_annotation_id", "ids occur twice"),
    "box outside": (annotation(bbox=[15, 10, 30, 4]), 0, "outside_image", "annotation 1"),
    "no segmentation": (without("annotations", "segmentation"), 1, "no_segmentation", "annotation 1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MALFORMED)
def test_both_commands_say_it_in_one_line(tmp_path: Path, fault: str, capsys: Any) -> None:
    spoil, code, kind, said = MALFORMED[fault]
    values = document()
    of_the_folder = kind in ("missing_image", "no_instances_file")
    if not of_the_folder:
        spoil(values)
    root = write(tmp_path / "d", values)
    if of_the_folder:
        spoil(root)
    assert main(["check-data", str(root), "--json"]) == code
    findings = json.loads(capsys.readouterr().out)["findings"]
    told = [finding for finding in findings if finding["code"] == kind]
    assert len(told) == 1
    assert said in json.dumps(told)
    # What is odd is told and trained on: the network, which is refused next, ends the test.
    words = ["train", "--model", "stardist", "--model-args", '{"rays": 4}', "--size", "32"]
    assert main([*words, "--data", str(root), "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if said in line]) == 1
    assert ("`rays`" in lines[-1]) == (code == 0)
    assert len(lines) == 1 or code == 0
    assert not (tmp_path / "run").exists()


def test_numbers_as_exporters_write_them(tmp_path: Path) -> None:
    values = document()
    image(height=float(SIZE[0]), width=str(SIZE[1]))(values)
    annotation(category_id=7.0, iscrowd=True, id="b", area=None)(values)
    values["categories"][0]["id"] = "3"
    root = write(tmp_path / "d", values)
    assert check(root).ok
    names = write(
        tmp_path / "named",
        {
            **document(),
            "images": [{**entry, "id": f"x{entry['id']}"} for entry in document()["images"]],
            "annotations": [
                {**entry, "image_id": f"x{entry['image_id']}"} for entry in document()["annotations"]
            ],
        },
    )
    assert check(names).ok


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[]", "expected an object, found a list"),
        ("{}", "missing required field `images`"),
        ('{"images": {}, "annotations": [], "categories": []}', "`images`: expected a list"),
        ('{"images": [], "annotations": [], "categories": []}', "lists 0 categories"),
        ('{"images": [], "annotations": ' + "[" * 100_000, "nested too deep"),
        (
            '{"images": [], "annotations": [' + "9" * 5000 + '], "categories": [{"id": 1, "name": "a"}]}',
            "out of",
        ),
        ('{"images": [NaN], "annotations": [], "categories": []}', "is not valid JSON"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "background"}]}',
            "background",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}],'
            ' "mask_orientation": 1}',
            "`mask_orientation`",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, text: str, said: str, capsys: Any) -> None:
    root = write(tmp_path / "d", document())
    (root / "instances_train.json").write_text(text)
    code = main(["check-data", str(root)])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert said in (err if code == 2 else out)
    with pytest.raises(DataError, match="instances_train"):
        open_source(root)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(coco_records, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 are read"):
        open_source(write(tmp_path / "d", document()))


def test_the_sample_has_no_fault() -> None:
    report = check("sample:nuclei")
    assert report.ok
    assert not [finding for finding in report.findings if finding.severity == "warning"]
    assert data.open("sample:nuclei").splits == {"train": 40, "val": 10}
