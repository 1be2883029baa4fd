"""Masks of ids to a kseg folder with instances: each object comes back, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from kseg import data
from kseg.errors import DataError

SIZE = (24, 32)


def ids(*objects: tuple[int, slice, slice]) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint16)
    for identity, rows, columns in objects:
        mask[rows, columns] = identity
    return mask


# 300 needs 16 bits, 7 lies in two parts, and 2 touches 300.
CELLS = ids(
    (300, slice(0, 5), slice(0, 9)), (2, slice(5, 9), slice(0, 9)), (7, slice(20, 23), slice(1, 4)),
    (7, slice(20, 23), slice(28, 31)),
)  # fmt: skip


def save(root: Path, name: str, mask: np.ndarray, folder: str = "instances") -> None:
    for kind in ("images", folder):
        (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.full((*SIZE, 3), 90, np.uint8))
    cv2.imwrite(str(root / folder / f"{name}.png"), mask)


def objects(out: Path, split: str, index: int) -> list[tuple[int, np.ndarray]]:
    found = data.open(out).samples(split)[index].instances
    assert found is not None
    return [(int(found.classes[k - 1]), found.mask(k)) for k in found.ids()]


@pytest.mark.parametrize("kind", ["instances", "masks"])
def test_objects_come_back(kind: str, tmp_path: Path) -> None:
    root, out = tmp_path / "from", tmp_path / "out"
    save(root, "train/a/cell", CELLS, kind)
    save(root, "val/b", np.zeros(SIZE, np.uint16), kind)
    save(root, "val/c", ids((1, slice(2, 3), slice(0, 32))), kind)
    wanted = "id-masks" if kind == "masks" else "auto"
    done = data.convert(root, wanted, out, classes=["nucleus"])
    assert (done.format, done.kind, done.classes) == ("id-masks", "coco", ("background", "nucleus"))
    assert {name: counts.images for name, counts in done.counts.items()} == {"train": 1, "val": 2}
    found = objects(out, "train", 0)
    expected = [identity == CELLS for identity in (2, 7, 300)]
    assert [kind for kind, _ in found] == [1, 1, 1]
    for (_, mask), wanted_mask in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, wanted_mask)
    assert [len(objects(out, "val", index)) for index in (0, 1)] == [0, 1]
    stored = json.loads((out / "instances_train.json").read_text())["annotations"][1]
    assert (stored["bbox"], stored["area"]) == ([1, 20, 30, 3], 18)


def test_several_classes_are_thousands(tmp_path: Path) -> None:
    root, out = tmp_path / "from", tmp_path / "out"
    save(root, "a", ids((1001, slice(0, 4), slice(0, 4)), (2001, slice(8, 12), slice(0, 4))))
    save(root, "b", ids((2007, slice(0, 4), slice(0, 4))))
    data.convert(root, "id-masks", out, classes=["cat", "dog"], split="50/50")
    kinds = [kind for split in ("train", "val") for kind, _ in objects(out, split, 0)]
    assert sorted(kinds) == [1, 2, 2]
    save(root, "c", ids((17, slice(0, 4), slice(0, 4))))
    with pytest.raises(DataError, match=r"c\.png' holds the id 17; with 2 classes an id is 1000 x class"):
        data.convert(root, "id-masks", tmp_path / "refused", classes=["cat", "dog"], split="50/50")
    assert not (tmp_path / "refused").exists()


def test_masks_beside_images_and_label_maps_of_them(tmp_path: Path) -> None:
    """Cellpose's `_masks`; `semantic` paints all objects of a class."""
    root = tmp_path / "from"
    root.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(root / f"{name}.png"), np.full((*SIZE, 3), 90, np.uint8))
        cv2.imwrite(str(root / f"{name}_masks.png"), CELLS)
    data.convert(root, "auto", tmp_path / "objects", split="50/50")
    assert len(objects(tmp_path / "objects", "val", 0)) == 3
    data.convert(root, "auto", tmp_path / "classes", split="50/50", semantic=True)
    sample = data.open(tmp_path / "classes").samples("train")[0]
    np.testing.assert_array_equal(sample.mask, CELLS > 0)


def test_a_mask_needs_an_image(tmp_path: Path) -> None:
    root = tmp_path / "from"
    save(root, "train/a", CELLS)
    (root / "images" / "train" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.png' has no image 'train/a'"):
        data.convert(root, "id-masks", tmp_path / "out")
