"""Folders of both layouts: what is read, and one clear line for each way of being wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_folders import SIZE, box, make_coco, make_folder

from kseg import data
from kseg.data import instances as instance_masks
from kseg.data import open as open_source
from kseg.data.run_lengths import Masks
from kseg.data.sample import Outline, outlines_of
from kseg.errors import DataError, KsegError, UsageError


def test_samples_hold_the_files_pixels_with_void_as_the_ignore_id(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "d")
    source = data.open(folder, cache_dir=tmp_path / "cache")
    samples = source.samples("train")
    assert source.splits == {"train": 4, "val": 2}
    assert source.spec.classes == ("a", "b", "c")
    assert source.spec.ignore_id == 255
    assert source.spec.data["fingerprint"] == source.fingerprint
    for sample in samples:
        raw = cv2.imread(str(folder / "labels/train" / f"{sample.name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(sample.mask, np.where(raw == 7, 255, raw))
        np.testing.assert_array_equal(
            sample.image[..., ::-1], cv2.imread(str(folder / "images/train" / f"{sample.name}.png"))
        )


def test_limit_is_evenly_spaced_and_slices_work(tmp_path: Path) -> None:
    source = data.open(make_folder(tmp_path / "d"), cache_dir=tmp_path / "cache")
    assert [sample.name for sample in source.samples("train", limit=2)] == ["000", "002"]
    assert [sample.name for sample in source.samples("train[25%:75%]")] == ["001", "002"]
    assert [sample.name for sample in source.samples("train")[1:3]] == ["001", "002"]
    with pytest.raises(UsageError, match="limit"):
        source.samples("train", limit=0)


def test_colour_masks_through_a_palette_and_shifted_ids_through_a_map(tmp_path: Path) -> None:
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    folder = make_folder(tmp_path / "d", ids=(0, 1, 2))
    truth = {}
    for path in sorted((folder / "labels").rglob("*.png")):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        truth[path] = ids
        cv2.imwrite(str(path), colors[ids][..., ::-1])
    with pytest.raises(DataError, match="palette"):
        data.open(folder, cache_dir=tmp_path / "cache").samples("train")
    colored = data.open(folder, cache_dir=tmp_path / "cache", palette=colors.tolist()).samples("val")
    np.testing.assert_array_equal(colored[0].mask, truth[folder / "labels/val/000.png"])
    for path, ids in truth.items():
        cv2.imwrite(str(path), ids * 50)
    shifted = data.open(folder, cache_dir=tmp_path / "cache", id_map={50: 1, 100: 2}).samples("val")
    np.testing.assert_array_equal(shifted[1].mask, truth[folder / "labels/val/001.png"])


def test_classes_json_can_say_that_masks_are_colours_and_what_ids_mean(tmp_path: Path) -> None:
    """What the command line has: every command then reads the folder alike."""
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    folder = make_folder(tmp_path / "d", ids=(0, 1, 2, 3))
    about = {"classes": ["a", "b", "c"], "palette": colors[:3].tolist(), "void_color": [9, 9, 9]}
    path = folder / "labels/val/000.png"
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    expected = np.where(ids == 3, 255, ids)

    def mask(**more: Any) -> np.ndarray:
        (folder / "classes.json").write_text(json.dumps({**about, **more}))
        found = data.open(folder, cache_dir=tmp_path / "cache").samples("val")[0].mask
        assert data.check(folder).ok
        return found

    np.testing.assert_array_equal(mask(id_map={"3": 255}), expected)
    for file in sorted((folder / "labels").rglob("*.png")):
        cv2.imwrite(str(file), colors[cv2.imread(str(file), cv2.IMREAD_UNCHANGED)][..., ::-1])
    np.testing.assert_array_equal(mask(color_masks=True), expected)
    for more, words in (
        ({"color_masks": "yes"}, "`color_masks`: expected true or false"),
        ({"color_masks": True, "palette": [[1, 2, 3]]}, "one .* per class .3.. Received: 1"),
        ({"color_masks": True, "palette": [[1, 2, 3]] * 3}, "must be distinct"),
        ({"id_map": [1]}, "`id_map`: expected an object"),
    ):
        with pytest.raises(DataError, match=f"classes.json.*{words}"):
            mask(**more)


def test_a_palette_file_in_another_order_gives_the_ids_of_classes_json(tmp_path: Path) -> None:
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    folder = make_folder(tmp_path / "d", ids=(0, 1, 2))
    ids = cv2.imread(str(folder / "labels/val/000.png"), cv2.IMREAD_UNCHANGED)
    for file in sorted((folder / "labels").rglob("*.png")):
        cv2.imwrite(str(file), colors[cv2.imread(str(file), cv2.IMREAD_UNCHANGED)][..., ::-1])
    palette = tmp_path / "colors.txt"
    palette.write_text("0 0 255 c\n255 0 0 a\n0 255 0 b\n9 9 9 void\n")
    opened = data.open(folder, cache_dir=tmp_path / "cache", palette=palette)
    np.testing.assert_array_equal(opened.samples("val")[0].mask, ids)
    report = data.check(folder, palette=palette)
    assert report.splits["val"].counts.pixels.tolist() == [
        sum(int((sample.mask == index).sum()) for sample in opened.samples("val")) for index in range(3)
    ]


def test_fingerprint_survives_a_copy_and_sees_a_change(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "d")
    before = data.open(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert data.open(tmp_path / "copy").fingerprint == before.fingerprint
    assert data.open(folder, id_map={7: 1}).fingerprint != before.fingerprint
    (folder / "images/val/000.png").unlink()
    assert data.open(folder).fingerprint != before.fingerprint


def _remove_classes(folder: Path) -> None:
    (folder / "classes.json").unlink()


def _remove_label(folder: Path) -> None:
    (folder / "labels/train/001.png").unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _no_images(folder: Path) -> None:
    for path in (folder / "images").rglob("*.png"):
        path.unlink()


def _strange_suffix(folder: Path) -> None:
    for path in (folder / "images").rglob("*.png"):
        path.rename(path.with_suffix(".raw"))


def _twins(folder: Path) -> None:
    shutil.copy(folder / "images/train/000.png", folder / "images/train/000.jpg")


def _broken_json(folder: Path) -> None:
    (folder / "classes.json").write_text("{")


def _other_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels/train/002.png"), np.zeros((3, 3), np.uint8))


def _truncated(folder: Path) -> None:
    path = folder / "images/train/003.png"
    path.write_bytes(path.read_bytes()[:60])


def _wrong_id(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels/train/002.png"), np.full(SIZE, 90, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "does not exist"),
        (_empty, "Found: nothing"),
        (_no_images, "no images"),
        (_strange_suffix, "no images"),
        (_remove_classes, "no classes.json"),
        (_broken_json, "classes.json' is not valid JSON"),
        (_remove_label, "001.png"),
        (_twins, "share one name"),
        (_other_size, "002.png.*3x3"),
        (_truncated, "003.png"),
        (_wrong_id, "002.png.*90.*id_map.*palette"),
    ],
)
def test_a_bad_folder_is_one_clear_line_and_leaves_no_cache(tmp_path: Path, spoil: Any, words: str) -> None:
    folder = make_folder(tmp_path / "d")
    spoil(folder)
    with pytest.raises(DataError, match=words) as caught:
        data.open(folder, cache_dir=tmp_path / "cache").samples("train")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("dataset_info.json"))


def test_unknown_split_and_sample_name_the_known_ones(tmp_path: Path) -> None:
    source = data.open(make_folder(tmp_path / "d"), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"Did you mean 'train'.*It has: train, val"):
        source.samples("trian")
    with pytest.raises(UsageError, match="Known: nuclei"):
        data.open("sample:nuclai")


def test_coco_overlaps_are_kept_and_crowds_are_ignored(tmp_path: Path) -> None:
    folder = make_coco(
        tmp_path / "d",
        [
            {"category_id": 9, "segmentation": box(1, 1, 8, 8)},
            {"category_id": 3, "segmentation": box(4, 4, 3, 3)},
            {"category_id": 3, "iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": [120, 20]}},
        ],
    )
    sample = data.open(folder, cache_dir=tmp_path / "cache").samples("train")[0]
    found = sample.instances
    assert found is not None
    assert found.layers.shape == (2, *SIZE)
    assert [int(found.mask(number).sum()) for number in (1, 2, 3)] == [64, 9, 20]
    assert found.classes.tolist() == [2, 1, 1]
    assert found.crowd.tolist() == [False, False, True]
    assert sample.mask[5, 5] == 1  # the small cat over the large dog
    assert sample.mask[2, 2] == 2
    assert (sample.mask == 255).sum() == 20
    assert data.open(folder).spec.classes == ("background", "cat", "dog")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"category_id": 4, "segmentation": box(0, 0, 2, 2)}, "category 4"),
        ({"category_id": 3, "segmentation": {"size": [3, 3], "counts": [9]}}, "annotation 0.*RLE size is"),
        ({"category_id": 3, "segmentation": 17}, "neither polygons nor RLE"),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, annotation: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        data.open(make_coco(tmp_path / "d", [annotation]), cache_dir=tmp_path / "cache").samples("train")


def test_stacked_masks_come_back_exactly() -> None:
    rng = np.random.default_rng(3)
    masks = [rng.random((9, 9)) < 0.4 for _ in range(6)] + [np.zeros((9, 9), bool)]
    found = instance_masks.stack(Masks.from_masks(masks, (9, 9)), range(7), [False] * 7)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(found.mask(index + 1), mask)
    assert found.ids().tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KsegError, match="from 1 to 7"):
        found.mask(8)


def test_layers_are_those_of_first_fit() -> None:
    """Painted one after the other, each on the first layer that is free there; over 8, and over 16."""
    rng = np.random.default_rng(4)
    for count in (0, 5, 160):
        masks = [boxed(rng, (20, 30)) & (rng.random((20, 30)) < 0.7) for _ in range(count)]
        wanted = [np.zeros((20, 30), np.int32)]
        for identity, mask in enumerate(masks, start=1):
            free = [layer for layer in wanted if not layer[mask].any()]
            if not free:
                wanted.append(np.zeros((20, 30), np.int32))
            (free or wanted[-1:])[0][mask] = identity
        found = instance_masks.stack(Masks.from_masks(masks, (20, 30)), [1] * count, [False] * count)
        np.testing.assert_array_equal(found.layers, wanted)
    assert len(wanted) > 16


def boxed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    y, x, height, width = rng.integers(0, 14, 4)
    mask[y : y + height, x : x + width] = True
    return mask


def test_a_thousand_equal_objects_take_no_minute(tmp_path: Path) -> None:
    """An image that a file lists again and again; the check looks at no pair of them."""
    triangle = {"category_id": 3, "segmentation": [[1, 1, 9, 2, 4, 9]]}
    folder = make_coco(tmp_path / "d", [triangle] * 1000)
    start = time.process_time()
    found = open_source(folder, cache_dir=tmp_path / "cache").samples("train")[0].instances
    assert time.process_time() - start < 8
    assert found is not None
    assert found.layers.max(axis=(1, 2)).tolist() == list(range(1, 1001))


@pytest.mark.parametrize("apart", [False, True])
def test_more_layers_than_memory_is_given_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """Also where no pixel lies under too many, and first-fit needs the layers nevertheless."""
    corners = [box(0, 0, 4, 4), box(8, 0, 4, 4), [*box(8, 0, 2, 2), *box(0, 4, 2, 2)]]
    shapes = [*corners, [*box(0, 0, 2, 2), *box(0, 4, 2, 2)]] if apart else [box(0, 0, 9, 9)] * 3
    folder = make_coco(tmp_path / "d", [{"category_id": 3, "segmentation": shape} for shape in shapes])
    monkeypatch.setattr(instance_masks, "MAX_BYTES", 2 * 4 * SIZE[0] * SIZE[1])
    finding = next(finding for finding in data.check(folder).findings if finding.severity == "error")
    assert (finding.code, finding.files) == ("overlapping_instances", ["images/train/x.png"])
    words = rf"x.png': its {len(shapes)} objects overlap in 3 layers or more of 10x14 .*List each object once"
    assert re.search(words, finding.message)
    with pytest.raises(DataError, match=words):
        open_source(folder, cache_dir=tmp_path / "cache").samples("train")


def test_the_embedded_sample(tmp_path: Path) -> None:
    source = data.open("sample:nuclei", cache_dir=tmp_path)
    assert source.splits == {"train": 40, "val": 10}
    assert source.spec.classes == ("background", "nucleus")
    for sample in source.samples("val"):
        assert sample.instances is not None
        np.testing.assert_array_equal(sample.mask == 1, sample.instances.layers.any(axis=0))
        assert len(sample.instances.ids()) == len(sample.instances) > 0


def test_camvid_void_becomes_255(shared_data: Path) -> None:
    folder = open_source(shared_data / "camvid")
    item = folder.items["train"][0]
    raw = cv2.imread(str(item.label), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(folder.read(item).mask, np.where(raw == 11, 255, raw))
    assert {split: len(items) for split, items in folder.items.items()} == {
        "train": 367,
        "val": 101,
        "test": 233,
    }


def test_importing_the_package_is_light() -> None:
    code = "import sys, kseg.data; print([m for m in ('tensorflow', 'keras', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_convert_stays_a_function_after_its_room_was_imported() -> None:
    import importlib

    importlib.import_module("kseg.data.convert")
    assert callable(data.convert)


def test_outlines_are_told_without_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"category_id": 9, "segmentation": box(1, 1, 4, 3), "bbox": [1, 1, 4, 3], "area": 12},
        {"category_id": 3, "segmentation": box(3, 2, 5, 5), "bbox": [3, 2, 5, 5], "area": 25},
    ]
    coco = data.open(make_coco(tmp_path / "coco", entries), cache_dir=tmp_path / "cache")
    plain = data.open(make_folder(tmp_path / "plain"), cache_dir=tmp_path / "cache")
    every = [coco.samples("train"), plain.samples("val")[1:]]
    decoded = [[Outline.of(sample) for sample in samples] for samples in every]
    assert decoded[0][0].crowd.tolist() == [False, False]

    def refused(*arguments: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("kseg.data.cache.examples._pixels", refused)
    for samples, expected in zip(every, decoded, strict=True):
        for told, known in zip(outlines_of(samples), expected, strict=True):
            assert (told.name, told.size) == (known.name, known.size)
            np.testing.assert_array_equal(told.crowd, known.crowd)
