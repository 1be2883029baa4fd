"""The check of data folders: a clean one passes, each fault gets its own finding, file and repair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kseg.data import Sample, Source, check
from kseg.data import open as open_source
from kseg.data.ids import likely_fix, listed
from kseg.data.pictures.palette import Palette
from kseg.errors import DataError, UsageError
from kseg.spec import Spec

COLORS = ((128, 64, 128), (64, 0, 128), (10, 20, 30))
CLASSES = {"classes": ["road", "car", "tree"], "palette": COLORS, "void_id": 9, "void_color": [0, 0, 0]}
SIZE = (6, 8)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def semantic(tmp_path) -> Path:
    """Three train, two val images of noise, masks with every class and some void."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            save(
                tmp_path / "images" / split / f"{index}.png",
                rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8),
            )
            mask = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 4).astype(np.uint8)
            mask[mask == 3] = 9
            save(tmp_path / "labels" / split / f"{index}.png", mask)
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    return tmp_path


@pytest.fixture
def coco(tmp_path) -> Path:
    """Two images per split with one square each, of the two categories 3 and 7."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images, annotations = [], []
        for index in range(2):
            name = f"{index}.png"
            save(
                tmp_path / "images" / split / name,
                rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8),
            )
            images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            annotations.append(
                {
                    "id": index,
                    "image_id": index,
                    "category_id": (3, 7)[index],
                    "iscrowd": 0,
                    "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]],
                }
            )
        document = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        }
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(document))
    return tmp_path


def edit(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def only(report, severity: str = "error"):
    found = [finding for finding in report.findings if finding.severity == severity]
    assert len(found) == 1, [vars(finding) for finding in report.findings]
    return found[0]


def test_clean_folder_passes_with_exact_statistics(semantic):
    report = check(semantic)
    assert report.ok
    assert report.findings == []
    assert (report.kind, report.classes, list(report.splits)) == (
        "semantic",
        ("road", "car", "tree"),
        ["train", "val"],
    )
    train = report.splits["train"]
    assert train.counts.pixels.tolist() == [36, 36, 36]
    assert (train.counts.void, train.images, dict(train.sizes)) == (36, 3, {SIZE: 3})
    np.testing.assert_allclose(report.weights()["median_frequency"], [1, 1, 1])


def test_report_is_json(semantic):
    save(semantic / "labels" / "train" / "0.png", np.full(SIZE, 77, np.uint8))
    values = json.loads(json.dumps(check(semantic).to_dict(), allow_nan=False))
    assert values["ok"] is False
    assert values["splits"]["train"]["images"] == 3
    assert values["splits"]["train"]["void_share"] == pytest.approx(24 / 144)
    assert values["findings"][0]["details"]["ids"] == {"77": {"pixels": 48, "files": 1}}


def break_ids(folder):
    save(folder / "labels" / "train" / "1.png", np.full(SIZE, 200, np.uint8))
    return "ids_out_of_range", "no class: 200. Classes are 0-2, void is 255", "id_map="


def break_size(folder):
    save(folder / "labels" / "train" / "1.png", np.zeros((3, 3), np.uint8))
    return "size_mismatch", "mask 3x3, image 6x8", "nearest"


def break_missing_mask(folder):
    (folder / "labels" / "train" / "1.png").unlink()
    return "missing_mask", "no mask", "Add labels"


def break_image(folder):
    path = folder / "images" / "train" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    return "unreadable_image", "truncated", "Restore"


def break_empty_image(folder):
    (folder / "images" / "train" / "1.png").write_bytes(b"")
    return "unreadable_image", "0 bytes", "Restore"


def break_mask(folder):
    path = folder / "labels" / "train" / "1.png"
    path.write_bytes(path.read_bytes()[:50])
    return "unreadable_mask", "truncated", "Restore"


def break_lossy(folder):
    (folder / "labels" / "train" / "1.png").unlink()
    save(folder / "labels" / "train" / "1.jpg", np.zeros(SIZE, np.uint8))
    return "lossy_mask", "changes ids", "PNG"


def break_color(folder):
    pixels = np.array(COLORS, np.uint8)[np.arange(48).reshape(SIZE) % 3]
    save(folder / "labels" / "train" / "1.png", pixels)
    return "color_mask", "#804080", 'write "color_masks": true'


def break_strange_color(folder):
    save(folder / "labels" / "train" / "1.png", np.full((*SIZE, 3), (1, 2, 3), np.uint8))
    return "color_mask", "#010203", "--palette FILE"


def break_all_void(folder):
    for index in range(2):
        save(folder / "labels" / "val" / f"{index}.png", np.full(SIZE, 9, np.uint8))
    return "all_void", "'val'", "void_id"


BREAKS = [value for name, value in list(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda function: function.__name__)
def test_each_fault_is_one_error_with_its_file_and_repair(semantic, damage):
    code, message, fix = damage(semantic)
    finding = only(check(semantic))
    assert finding.code == code
    assert message in finding.message
    assert fix in finding.fix
    if code != "all_void":
        assert finding.count == 1
        assert Path(finding.files[0]).stem == "1"
        assert (semantic / finding.files[0]).is_file()


def test_faults_are_all_reported_in_one_run(semantic):
    break_image(semantic)
    break_size(semantic)
    save(semantic / "labels" / "train" / "0.png", np.full(SIZE, 200, np.uint8))
    codes = {finding.code for finding in check(semantic).findings}
    assert {"unreadable_image", "ids_out_of_range"} <= codes


def test_many_files_are_counted_and_few_listed(semantic):
    for index in range(20):
        save(semantic / "images" / "train" / f"x{index}.png", np.full((*SIZE, 3), index, np.uint8))
    finding = only(check(semantic))
    assert (finding.code, finding.count, len(finding.files)) == ("missing_mask", 20, 5)


def test_warnings_do_not_fail(semantic):
    save(semantic / "labels" / "train" / "orphan.png", np.zeros(SIZE, np.uint8))
    image = semantic / "images" / "train" / "0.png"
    save(semantic / "images" / "val" / "0.png", np.asarray(Image.open(image)))
    for index in range(3):
        save(
            semantic / "labels" / "train" / f"{index}.png",
            np.repeat([[0, 1], [9, 9], [9, 9]], (2, 2, 2), 0).repeat(4, 1).astype(np.uint8),
        )
    report = check(semantic)
    assert report.ok
    found = {finding.code: finding for finding in report.findings}
    assert found["orphan_mask"].files == ["labels/train/orphan.png"]
    assert found["duplicates_across_splits"].details["pairs"] == [["images/train/0.png", "images/val/0.png"]]
    assert found["absent_class"].details == {"split": "train", "classes": ["tree"]}
    assert found["mostly_void"].severity == "warning"
    assert all(finding.severity == "warning" for finding in report.findings)


def test_missing_splits(semantic):
    (semantic / "images" / "train").rename(semantic / "images" / "test")
    (semantic / "labels" / "train").rename(semantic / "labels" / "test")
    assert only(check(semantic)).code == "no_train_split"
    (semantic / "images" / "val").rename(semantic / "images" / "train")
    (semantic / "labels" / "val").rename(semantic / "labels" / "train")
    report = check(semantic)
    assert report.ok
    assert only(report, "warning").code == "no_val_split"


def test_black_and_white_masks_are_an_error_with_the_map_that_repairs_them(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        save(tmp_path / "images" / split / "a.png", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
        mask = np.zeros(SIZE, np.uint8)
        mask[:3] = 255
        save(tmp_path / "labels" / split / "a.png", mask)
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["background", "cell"]}))
    finding = only(check(tmp_path))
    assert (finding.code, "id_map={255: 1}" in finding.fix) == ("one_class", True)
    assert check(tmp_path, id_map={255: 1}).ok


def test_palette_in_every_form_repairs_colour_masks(semantic, tmp_path_factory):
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            pixels = np.array([*COLORS, (0, 0, 0)], np.uint8)[np.arange(48).reshape(SIZE) % 4]
            save(semantic / "labels" / split / f"{index}.png", pixels)
    assert only(check(semantic)).code == "color_mask"
    text = tmp_path_factory.mktemp("palette") / "colors.txt"
    text.write_text("10 20 30 tree\n64 0 128 car\n128 64 128 road\n0 0 0 Void\n")
    mapping = {**dict(zip(COLORS, range(3), strict=True)), (0, 0, 0): 255}
    for palette in (semantic / "classes.json", text, mapping, Palette(tuple(mapping.items()))):
        report = check(semantic, palette=palette)
        assert report.findings == []
        assert report.splits["train"].counts.pixels.tolist() == [36, 36, 36]
        assert report.splits["train"].counts.void == 36
    opened = open_source(semantic, palette=mapping)
    assert check(opened).ok
    save(semantic / "labels" / "train" / "1.png", np.full((*SIZE, 3), (65, 0, 128), np.uint8))
    finding = only(check(semantic, palette=mapping))
    assert finding.code == "unknown_color"
    assert finding.details["colors"][0]["nearest"] == "car"
    assert only(check(opened)).code == "unknown_color"


def test_an_empty_split_that_training_does_not_read_is_a_warning(semantic):
    (semantic / "images" / "test").mkdir()
    report = check(semantic)
    assert report.ok
    assert only(report, "warning").code == "empty_split"


def test_limit_reads_few_and_does_not_warn_of_absent_classes(semantic):
    save(semantic / "labels" / "train" / "0.png", (np.arange(48).reshape(SIZE) % 2).astype(np.uint8))
    report = check(semantic, limit=1)
    assert report.splits["train"].images == 1
    assert only(report, "info").code == "absent_class"
    assert only(report, "info").message.startswith("1 classes never occur in the 1 images read")


def test_what_is_no_data_set_at_all(tmp_path, semantic):
    with pytest.raises(DataError, match="does not exist"):
        check(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not a data folder"):
        check(tmp_path / "empty")
    (semantic / "classes.json").unlink()
    with pytest.raises(DataError, match=r"classes\.json"):
        check(semantic)


def test_clean_coco_folder(coco):
    report = check(coco)
    assert report.findings == []
    assert (report.kind, report.classes) == ("coco", ("background", "cat", "dog"))
    train = report.splits["train"]
    assert (train.images, train.instances) == (2, 2)
    assert train.counts.pixels.tolist() == [96 - 32, 16, 16]
    with pytest.raises(UsageError, match="COCO"):
        check(coco, id_map={1: 2})


def test_crowds_alone_are_named_and_no_map_is_advised(coco):
    def crowds(document):
        for annotation in document["annotations"]:
            annotation["iscrowd"] = 1

    edit(coco / "instances_train.json", crowds)
    finding = only(check(coco))
    assert (finding.code, "id_map" in finding.fix) == ("one_class", False)
    assert "All annotations are crowds" in finding.fix


COCO_BREAKS = {
    "category_out_of_range": lambda d: d["annotations"][0].update(category_id=5),
    "unknown_image": lambda d: d["annotations"][0].update(image_id=55),
    "no_segmentation": lambda d: d["annotations"][0].update(segmentation=[]),
    "bad_segmentation": lambda d: d["annotations"][0].update(segmentation={"size": [1, 1], "counts": "00"}),
    "size_mismatch": lambda d: d["images"][1].update(height=7),
    "missing_image": lambda d: d["images"][1].update(file_name="gone.png"),
    "duplicate_image_id": lambda d: d["images"].append(dict(d["images"][0])),
    "image_record": lambda d: d["images"].append({"id": 9}),
    "categories_differ": lambda d: d["categories"][0].update(name="cow"),
}


@pytest.mark.parametrize("code", COCO_BREAKS)
def test_each_coco_fault_is_found(coco, code):
    edit(coco / "instances_val.json", COCO_BREAKS[code])
    report = check(coco)
    assert not report.ok
    assert [finding.code for finding in report.findings if finding.severity == "error"] == [code]


def test_coco_warnings(coco):
    edit(coco / "instances_train.json", lambda d: d["annotations"][1].update(id=0))
    edit(coco / "instances_val.json", lambda d: d["annotations"].clear())
    save(coco / "images" / "val" / "extra.png", np.zeros((*SIZE, 3), np.uint8))
    report = check(coco)
    assert report.ok
    found = {finding.code: finding for finding in report.findings}
    assert set(found) == {"duplicate_annotation_id", "empty_images", "unlisted_image", "absent_class"}
    assert found["empty_images"].severity == "warning"
    assert found["unlisted_image"].files == ["images/val/extra.png"]


def test_broken_coco_json_is_no_data_set(coco):
    (coco / "instances_val.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_val\.json' is not valid JSON"):
        check(coco)
    (coco / "instances_val.json").write_text("[]")
    with pytest.raises(DataError, match="expected an object, found a list"):
        check(coco)


class Stream(Source):
    """An opened set without files, as TFDS sets are."""

    def __init__(self, masks):
        self.name, self.kind, self.splits = "tfds:x", "tfds", {"train": len(masks), "val": len(masks)}
        self.spec = Spec(classes=("a", "b"))
        self._samples = [
            Sample(str(index), np.zeros((2, 2, 3), np.uint8), np.array(mask, np.uint8), None)
            for index, mask in enumerate(masks)
        ]

    def samples(self, split, limit=None):
        return self._samples[:limit]


def test_sets_without_files_are_checked_through_their_samples():
    report = check(Stream([[[0, 1], [1, 255]], [[0, 0], [0, 0]]]))
    assert report.findings == []
    assert report.splits["train"].counts.pixels.tolist() == [5, 2]
    assert only(check(Stream([[[0, 1], [1, 7]]]))).code == "ids_out_of_range"
    assert only(check(Stream([[[0, 1]]]))).code == "size_mismatch"
    with pytest.raises(UsageError, match="palette"):
        check(Stream([]), palette={(0, 0, 0): 0})


@pytest.mark.parametrize(
    ("wrong", "seen", "expected"),
    [
        ({3}, {0, 1, 2, 3}, '"void_id": 3'),
        ({3}, {1, 2, 3}, "start at 1"),
        ({128, 200}, {0, 128, 200, 255}, "id_map={0: 0, 128: 1, 200: 2}"),
        ({7, 8, 9}, {0, 1, 2, 7, 8, 9}, "id_map={7: 255, 8: 255, 9: 255}"),
    ],
)
def test_likely_fix(wrong, seen, expected):
    assert expected in likely_fix(wrong, seen, 3, 255)


def test_listed_shortens():
    assert listed({3, 1}) == "1, 3"
    assert listed(range(100)).endswith("... (100 ids)")


@pytest.mark.parametrize(("name", "kind"), [("camvid", "semantic"), ("nuclei", "coco")])
def test_real_sets_are_clean(shared_data, name, kind):
    report = check(shared_data / name, limit=12)
    assert report.ok, [vars(finding) for finding in report.findings]
    assert report.kind == kind
    assert all(split.images == 12 for split in report.splits.values())
    assert not [finding for finding in report.findings if finding.severity == "warning"]
