"""`kseg check-data` and `kseg train` agree: what is called fit starts, what is not is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_train import make_folder

from kseg.cli.main import INTERRUPTED, main
from kseg.data import check
from kseg.errors import DataError
from kseg.training import trainer

SIZE = (24, 32)


def _classes(**values: Any) -> Callable[[Path], object]:
    return lambda root: (root / "classes.json").write_text(json.dumps(values))


def _masks(split: str, value: int) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        for path in (root / "labels" / split).iterdir():
            Image.fromarray(np.full(SIZE, value, np.uint8)).save(path)

    return fill


def _one_class_named(root: Path) -> None:
    _classes(classes=["a"])(root)
    for split in ("train", "val"):
        _masks(split, 0)(root)


def _without(name: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        for part in ("images", "labels"):
            shutil.rmtree(root / part / name)

    return remove


def _extra(split: str, value: int | None) -> Callable[[Path], None]:
    """Copy `val` as another split, with masks all of `value` or, for None, without masks."""

    def add(root: Path) -> None:
        shutil.copytree(root / "images/val", root / "images" / split)
        if value is not None:
            shutil.copytree(root / "labels/val", root / "labels" / split)
            _masks(split, value)(root)

    return add


def _renamed(root: Path) -> None:
    for part in ("images", "labels"):
        (root / part / "val").rename(root / part / "validation")


def _turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (root / "images/train").iterdir():
        Image.open(path).save(path, exif=exif)


def _instances(annotations: list[dict[str, Any]]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        shutil.rmtree(root / "labels")
        for split in ("train", "val"):
            names = sorted(path.name for path in (root / "images" / split).iterdir())
            document = {
                "images": [
                    {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
                    for number, name in enumerate(names)
                ],
                "categories": [{"id": 1, "name": "thing"}],
                "annotations": annotations,
            }
            (root / f"instances_{split}.json").write_text(json.dumps(document))

    return write


SQUARE = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[4, 4, 20, 4, 20, 20, 4, 20]]}

# What is odd about a folder -> how it comes about, whether it is fit.
FOLDERS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda root: None, True),
    "one class in the list": (_one_class_named, False),
    "one class in the masks": (_masks("train", 1), False),
    "train is void": (_masks("train", 255), False),
    "val is void": (_masks("val", 255), False),
    "test is void": (_extra("test", 255), True),
    "test has no masks": (_extra("test", None), False),
    "val is one class": (_masks("val", 1), True),
    "no val": (_without("val"), True),
    "val is called validation": (_renamed, True),
    "no train": (_without("train"), False),
    "an empty split": (lambda root: (root / "images/test").mkdir(), True),
    "an empty train": (lambda root: [path.unlink() for path in (root / "images/train").iterdir()], False),
    "a hidden folder": (lambda root: (root / "images/.cache").mkdir(), True),
    "a pipe": (lambda root: os.mkfifo(root / "images/train/pipe.png"), True),
    "turned, and nobody knows": (_turned, False),
    "turned, and it is said": (
        lambda root: [
            _turned(root),
            _classes(classes=["a", "b", "c"], mask_orientation="as_stored")(root),
        ],
        True,
    ),
    "a class too few": (_classes(classes=["a", "b"]), False),
    "a class that never occurs": (_classes(classes=["a", "b", "c", "d"]), True),
    "a name twice": (_classes(classes=["a", "b", "b"]), False),
    "a name that is none": (_classes(classes=["a", "b", " "]), False),
    "void is a class": (_classes(classes=["a", "b", "c"], void_id=0), False),
    "instances": (_instances([SQUARE]), True),
    "instances of nothing": (_instances([]), False),
    "crowds only": (_instances([{**SQUARE, "iscrowd": 1}]), False),
    "a box only": (_instances([SQUARE, {**SQUARE, "id": 2, "segmentation": []}]), False),
    "a polygon of two points": (
        _instances([SQUARE, {**SQUARE, "id": 2, "segmentation": [[1, 1, 2, 2]]}]),
        True,
    ),
    "an id twice": (_instances([SQUARE, SQUARE]), True),
}


# These are trained to the end; of the others it is enough that the first step would come.
TRAINED = ("nothing", "instances")


def _stop(*arguments: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("oddity", FOLDERS)
def test_check_data_says_what_train_does(oddity: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    spoil, fit = FOLDERS[oddity]
    root = make_folder(tmp_path / "d", {"train": 4, "val": 2}, SIZE)
    spoil(root)
    try:
        verdict = check(root).ok
    except DataError:
        verdict = False
    if oddity not in TRAINED:
        monkeypatch.setattr(trainer, "_fit", _stop)
    words = ["train", "--data", str(root), "--out", str(tmp_path / "run"), "--model", "unet"]
    words += ["--model-args", '{"width": 0.0625, "depth": 1}', "--epochs", "1", "--batch-size", "2"]
    code = main([*words, "--precision", "float32"])
    # A slow machine also says how far it is.
    said = [line for line in capsys.readouterr().err.splitlines() if "kseg: preparing" not in line]
    assert verdict is fit
    started = 0 if oddity in TRAINED else INTERRUPTED
    assert code == (started if fit else 2), said
    if not fit:
        assert len(said) == 1
        # What repairs black and white masks is refused for a folder of instances.
        assert "id_map" not in said[0] or (root / "labels").is_dir()
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("oddity", [name for name, (_, fit) in FOLDERS.items() if not fit])
def test_the_command_has_the_same_verdict(oddity: str, tmp_path: Path, capsys: Any) -> None:
    root = make_folder(tmp_path / "d", {"train": 4, "val": 2}, SIZE)
    FOLDERS[oddity][0](root)
    assert main(["check-data", str(root)]) in (1, 2)
    assert "fit for training" not in capsys.readouterr().out.replace("not fit for training", "")
