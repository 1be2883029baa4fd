"""Each format as its tool writes it: label maps right pixel for pixel, and `check-data` finds no error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import foreign
import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.data.convert import FORMATS
from kseg.data.pictures.images import read_image

Maker = Callable[[Path], dict[str, np.ndarray]]

# name -> format, maker, classes that come out
CASES: dict[str, tuple[str, Maker, tuple[str, ...] | int]] = {
    "voc": ("voc", foreign.voc, 21),
    "cityscapes": ("cityscapes", foreign.cityscapes, 19),
    "ade20k": ("ade20k", foreign.ade20k, 150),
    "labelme": ("labelme", foreign.labelme, ("background", "cat", "dog")),
    "cvat": ("cvat", foreign.cvat, ("background", "cat", "dog")),
    "cvat masks": ("cvat", foreign.cvat_masks, ("background", "cat", "dog")),
    "supervisely": ("supervisely", foreign.supervisely, ("background", "lemon", "kiwi")),
    "coco": ("coco", foreign.coco, ("background", "person", "bus")),
    "id masks": ("id-masks", foreign.id_masks, ("background", "object")),
}


def maps(folder: Path) -> dict[str, np.ndarray]:
    """Return `SPLIT/NAME` -> the label map as stored."""
    root = folder / "labels"
    return {
        path.relative_to(root).with_suffix("").as_posix(): np.asarray(Image.open(path))
        for path in sorted(root.rglob("*.png"))
    }


def test_every_format_has_its_case() -> None:
    assert {name for name, _, _ in CASES.values()} | {"kseg"} == set(FORMATS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("asked", ["auto", "named"])
def test_label_maps_are_exact_and_the_check_passes(case: str, asked: str, tmp_path: Path) -> None:
    name, make, classes = CASES[case]
    expected = make(tmp_path / "from")
    out = tmp_path / "out"
    done = data.convert(tmp_path / "from", "auto" if asked == "auto" else name, out, semantic=True)
    assert done.format == name
    found = maps(out)
    if not any("/" in key for key in expected):  # the data had no split
        found = {key.split("/", 1)[1]: value for key, value in found.items()}
    assert set(found) == set(expected)
    for key, wanted in expected.items():
        np.testing.assert_array_equal(found[key], wanted, err_msg=key)
        assert found[key].dtype == np.uint8
    source = data.open(out)
    assert classes in (source.spec.classes, source.spec.num_classes)
    assert sum(source.splits.values()) == len(expected)
    report = data.check(out)
    assert [finding.message for finding in report.findings if finding.severity == "error"] == []
    for split, counts in done.counts.items():
        np.testing.assert_array_equal(counts.pixels, report.splits[split].counts.pixels)
        assert counts.void == report.splits[split].counts.void


@pytest.mark.parametrize("case", CASES)
def test_images_are_the_same_bytes(case: str, tmp_path: Path) -> None:
    _, make, _ = CASES[case]
    make(tmp_path / "from")
    data.convert(tmp_path / "from", "auto", tmp_path / "out")
    before = {path.read_bytes() for path in (tmp_path / "from").rglob("*") if path.suffix in (".jpg", ".png")}
    after = [path for path in (tmp_path / "out" / "images").rglob("*") if path.is_file()]
    embedded = [path for path in after if path.stem == "held_7"]
    assert len(after) > len(embedded)
    assert all(path.read_bytes() in before for path in after)


def test_what_cannot_be_said_is_said(tmp_path: Path) -> None:
    foreign.voc(tmp_path / "voc")
    dropped = data.convert(tmp_path / "voc", "voc", tmp_path / "1").dropped
    assert dropped["images of test, which has no label maps"] == 1
    assert dropped["images in no list of ImageSets/Segmentation"] == 1
    foreign.labelme(tmp_path / "labelme")
    dropped = data.convert(tmp_path / "labelme", "labelme", tmp_path / "2").dropped
    assert dropped == {"images without a JSON file": 1, "shapes without area (line)": 3}
    foreign.cityscapes(tmp_path / "city")
    done = data.convert(tmp_path / "city", "cityscapes", tmp_path / "3")
    assert done.notes == ["test (1 images) is left out: its truth is nothing but void"]
    assert not (tmp_path / "3" / "images" / "test").exists()


def test_coco_stays_instances_and_means_the_same(tmp_path: Path) -> None:
    expected = foreign.coco(tmp_path / "from")
    done = data.convert(tmp_path / "from", "coco", tmp_path / "out")
    assert done.kind == "coco"
    assert not (tmp_path / "out" / "labels").exists()
    sample = data.open(tmp_path / "out", cache_dir=tmp_path / "cache").samples("train")[0]
    np.testing.assert_array_equal(sample.mask, expected["train/000000000009"])
    assert sample.instances is not None
    assert sample.instances.classes.tolist() == [1, 2, 1]
    assert sample.instances.crowd.tolist() == [False, False, True]
    assert data.check(tmp_path / "out").ok


@pytest.mark.parametrize("name", ["labelme", "cvat", "supervisely"])
def test_undrawn_pixels_can_be_void_and_there_is_no_background_then(name: str, tmp_path: Path) -> None:
    _, make, classes = CASES[name]
    expected = make(tmp_path / "from")
    if name == "labelme":  # its labels.txt lists a background
        (tmp_path / "from" / "labels.txt").write_text("__ignore__\ncat\ndog\n")
    done = data.convert(tmp_path / "from", name, tmp_path / "out", unlabeled="void")
    assert isinstance(classes, tuple)
    assert done.classes == classes[1:]
    found = {key.split("/", 1)[1]: value for key, value in maps(tmp_path / "out").items()}
    for key, wanted in expected.items():
        void = np.where(wanted == 0, 255, np.where(wanted == 255, 255, wanted - 1))
        np.testing.assert_array_equal(found[key.split("/", 1)[-1]], void)


def test_classes_given_fix_the_order(tmp_path: Path) -> None:
    expected = foreign.labelme(tmp_path / "from")
    done = data.convert(
        tmp_path / "from", "labelme", tmp_path / "out", classes=["dog", "cat", "__ignore__", "_background_"]
    )
    assert done.classes == ("background", "dog", "cat")
    swap = np.arange(256)
    swap[[1, 2]] = 2, 1
    found = {key.split("/", 1)[1]: value for key, value in maps(tmp_path / "out").items()}
    for key, wanted in expected.items():
        np.testing.assert_array_equal(found[key], swap[wanted])


def test_a_voc_folder_with_colours_and_with_labelmes_names(tmp_path: Path) -> None:
    from kseg.data.label_spaces import label_space

    wanted = foreign.ids(1, [0, 5, 20, 255])
    space = label_space("voc")
    lookup = np.zeros((256, 3), np.uint8)
    lookup[:21], lookup[255] = space.colors, space.void_color
    foreign.image(tmp_path / "rgb" / "JPEGImages", "a.jpg")
    foreign.png(tmp_path / "rgb" / "SegmentationClass" / "a.png", lookup[wanted])
    foreign.write(tmp_path / "rgb" / "ImageSets" / "Segmentation" / "train.txt", "a\n")
    data.convert(tmp_path / "rgb", "voc", tmp_path / "1")
    np.testing.assert_array_equal(maps(tmp_path / "1")["train/a"], wanted)

    foreign.image(tmp_path / "own" / "JPEGImages", "a.jpg")
    foreign.png(tmp_path / "own" / "SegmentationClass" / "a.png", foreign.ids(1, [0, 1, 255]), palette=True)
    foreign.write(tmp_path / "own" / "class_names.txt", "_background_\ncrack\n")
    foreign.write(tmp_path / "own" / "ImageSets" / "Segmentation" / "train.txt", "a\n")
    done = data.convert(tmp_path / "own", "voc", tmp_path / "2")
    assert done.classes == ("background", "crack")
    np.testing.assert_array_equal(maps(tmp_path / "2")["train/a"], foreign.ids(1, [0, 1, 255]))


def test_roboflows_coco(tmp_path: Path) -> None:
    for folder, split in (("train", "train"), ("valid", "val")):
        foreign.image(tmp_path / "from" / folder, "a_jpg.rf.0123.jpg")
        values = {
            "images": [{"id": 0, "file_name": "a_jpg.rf.0123.jpg", "height": 12, "width": 16}],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]},
                {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [], "bbox": [0, 0, 3, 3]},
            ],
            "categories": [{"id": 1, "name": "nut"}],
        }
        foreign.write(tmp_path / "from" / folder / "_annotations.coco.json", json.dumps(values))
        assert split in ("train", "val")
    done = data.convert(tmp_path / "from", "auto", tmp_path / "out")
    assert {name: counts.images for name, counts in done.counts.items()} == {"train": 1, "val": 1}
    assert done.counts["val"].pixels.tolist() == [12 * 16 - 16, 16]
    assert list(done.dropped.values()) == [2]


def test_cvats_own_writer_of_masks_is_read_back(tmp_path: Path) -> None:
    masks = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk is not installed")
    bits = np.zeros(foreign.SIZE, bool)
    bits[3:9, 2:11] = foreign.ids(4, [0, 1], (6, 9)).astype(bool)
    bits[3, 2] = bits[8, 10] = True
    *counts, left, top, right, bottom = masks.encode_mask(bits)
    foreign.image(tmp_path / "from" / "images", "a.png")
    foreign.write(
        tmp_path / "from" / "annotations.xml",
        '<annotations><version>1.1</version><meta/><image id="0" name="a.png" width="16" height="12">'
        f'<mask label="nut" rle="{", ".join(map(str, counts))}" left="{left}" top="{top}" '
        f'width="{right - left + 1}" height="{bottom - top + 1}" z_order="0"/></image></annotations>',
    )
    data.convert(tmp_path / "from", "cvat", tmp_path / "out", split="100/0")
    np.testing.assert_array_equal(maps(tmp_path / "out")["train/a"], bits)


@pytest.mark.parametrize(("name", "kind"), [("nuclei", "coco"), ("coco_mini", "coco"), ("camvid", "kseg")])
def test_shared_data_round_trip(name: str, kind: str, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / name
    (tmp_path / "from").mkdir()
    for path in (path for path in folder.iterdir() if path.suffix == ".json" and "train" not in path.stem):
        shutil.copy(path, tmp_path / "from")
    for path in folder.glob("*/val"):  # one split is enough, and train is large
        (tmp_path / "from" / path.parent.name).mkdir()
        (tmp_path / "from" / path.parent.name / "val").symlink_to(path)
    source = data.open(tmp_path / "from")
    done = data.convert(tmp_path / "from", "auto", tmp_path / "out", link="symlink")
    again = data.open(tmp_path / "out")
    assert done.format == kind
    assert again.splits == source.splits
    assert again.spec.classes == source.spec.classes
    for split in source.splits:
        for index in range(0, source.splits[split], 10):
            one, two = source.stored(split, index)[0], again.stored(split, index)[0]
            assert one.name == two.name
            np.testing.assert_array_equal(one.image, two.image)
            np.testing.assert_array_equal(one.mask, two.mask)


def test_a_kseg_folder_in_colours_becomes_one_of_ids(tmp_path: Path) -> None:
    wanted = foreign.ids(2, [0, 1, 255])
    lookup = np.zeros((256, 3), np.uint8)
    lookup[0], lookup[1], lookup[255] = (10, 20, 30), (200, 0, 0), (1, 1, 1)
    for index in range(4):
        foreign.image(tmp_path / "from" / "images", f"{index}.jpg")
        foreign.png(tmp_path / "from" / "labels" / f"{index}.png", lookup[wanted])
    values = {"classes": ["a", "b"], "palette": [[10, 20, 30], [200, 0, 0]], "color_masks": True}
    foreign.write(tmp_path / "from" / "classes.json", json.dumps({**values, "void_color": [1, 1, 1]}))
    done = data.convert(tmp_path / "from", "auto", tmp_path / "out", split="50/50")
    assert done.format == "kseg"
    assert {name: counts.images for name, counts in done.counts.items()} == {"train": 2, "val": 2}
    for stored in maps(tmp_path / "out").values():
        np.testing.assert_array_equal(stored, wanted)
    assert data.open(tmp_path / "out").spec.palette == ((10, 20, 30), (200, 0, 0))


def test_an_image_turned_by_its_tag_is_kept_and_named(tmp_path: Path) -> None:
    """labelme draws on the turned image; its map has that size, and the file keeps its tag."""
    expected = foreign.labelme(tmp_path / "from")
    tag = Image.Exif()
    tag[274] = 6
    pixels = np.zeros((foreign.SIZE[1], foreign.SIZE[0], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "from" / "walk_001.jpg", exif=tag)
    done = data.convert(tmp_path / "from", "labelme", tmp_path / "out")
    path = next((tmp_path / "out" / "images").rglob("walk_001.jpg"))
    assert read_image(path).shape[:2] == foreign.SIZE
    assert Image.open(path).getexif()[274] == 6
    found = {key.split("/", 1)[1]: value for key, value in maps(tmp_path / "out").items()}
    np.testing.assert_array_equal(found["walk_001"], expected["walk_001"])
    assert "1 images are turned by their EXIF tag; they are kept as they are, tag and all" in done.notes
