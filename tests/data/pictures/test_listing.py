"""What is no file in a folder of images: left out with a word, never waited for."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.cli.predict import find_images
from kseg.data import check
from kseg.data.pictures import listing
from kseg.data.pictures.images import read_image
from kseg.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder whose images and labels have pipes, sockets and a device beside them."""
    monkeypatch.setattr(listing, "_told", set())
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "d"
    for split in ("train", "val"):
        for part in ("images", "labels"):
            folder = root / part / split
            folder.mkdir(parents=True)
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2
            Image.fromarray(pixels * (99 if part == "images" else 1)).save(folder / "a.png")
            os.mkfifo(folder / "pipe.png")
    # A socket's path is short or not at all.
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s.png")
    os.rename("s.png", root / "images/train/socket.png")
    os.symlink("/dev/zero", root / "images/train/device.png")
    (root / "images/train/folder.png").mkdir()
    hidden = root / "images/train/.ipynb_checkpoints"
    hidden.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(hidden / "a-checkpoint.png")
    (root / "images/.cache").mkdir()
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b"]}))
    return root


def test_listing_tells_files_from_the_rest(odd: Path) -> None:
    found = listing.images(odd / "images/train")
    assert [path.name for path in found.files] == ["a.png"]
    assert [path.name for path in found.special] == ["device.png", "pipe.png", "socket.png"]
    assert [path.name for path in listing.subfolders(odd / "images")] == ["train", "val"]


def test_data_folders_are_read_without_them_and_say_so(odd: Path, tmp_path: Path, capsys: Any) -> None:
    samples = data.open(odd, cache_dir=tmp_path / "cache").samples("train")
    assert [sample.name for sample in samples] == ["a"]
    # A slow machine also says how far it is.
    said = [line for line in capsys.readouterr().err.splitlines() if "kseg: preparing" not in line]
    assert len(said) == 1
    assert "device.png" in said[0]
    assert "no regular file" in said[0]
    report = check(odd)
    assert report.ok
    found = {finding.code: finding for finding in report.findings}
    assert found["special_file"].severity == "warning"
    assert found["special_file"].count == 6
    assert "missing_mask" not in found


def test_folders_to_predict_are_read_without_them(odd: Path, capsys: Any) -> None:
    found = find_images([str(odd / "images/train")], odd / "out")
    assert [path.name for path in found] == ["a.png"]
    assert capsys.readouterr().err.count("no regular file") == 1
    with pytest.raises(DataError, match="neither an image file nor a folder"):
        find_images([str(odd / "images/train/pipe.png")], odd / "out")


@pytest.mark.parametrize("name", ["pipe.png", "device.png", "socket.png"])
def test_reading_one_is_refused_at_once(odd: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no regular file"):
        read_image(odd / "images/train" / name)


def test_a_link_to_nothing_is_an_image_that_is_missing(odd: Path) -> None:
    os.symlink(odd / "gone.png", odd / "images/train/b.png")
    (odd / "labels/train/b.png").write_bytes((odd / "labels/train/a.png").read_bytes())
    codes = [finding.code for finding in check(odd).findings if finding.severity == "error"]
    assert codes == ["unreadable_image"]


def test_coco_folders_too(odd: Path) -> None:
    for split in ("train", "val"):
        document = {
            "images": [
                {"id": 1, "file_name": "a.png", "height": 8, "width": 8},
                {"id": 2, "file_name": "pipe.png", "height": 8, "width": 8},
            ],
            "categories": [{"id": 1, "name": "b"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
            ],
        }
        (odd / f"instances_{split}.json").write_text(json.dumps(document))
    (odd / "classes.json").write_text('{"truth": "instances"}')
    report = check(odd)
    found = {finding.code: finding for finding in report.findings}
    assert found["missing_image"].count == 2
    assert found["special_file"].count == 4
