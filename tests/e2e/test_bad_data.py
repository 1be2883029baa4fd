"""Wrong data: `train` and `check-data` say it in one line, name the file, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import Kseg, training


def _mask(pixels: np.ndarray) -> Callable[[Path], None]:
    return lambda data: Image.fromarray(pixels).save(data / "labels" / "train" / "3.png")


def _cut(kind: str) -> Callable[[Path], None]:
    def cut(data: Path) -> None:
        file = data / kind / "train" / "3.png"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return cut


def _write_classes(text: str) -> Callable[[Path], object]:
    return lambda data: (data / "classes.json").write_text(text)


_COLORS = np.zeros((32, 32, 3), np.uint8)
_COLORS[:16] = (200, 0, 90)

# What is wrong -> how it comes about, exit code of check-data, what train must name.
FAULTS: dict[str, tuple[Callable[[Path], object], int, list[str]]] = {
    "no folder": (shutil.rmtree, 2, ["does not exist", "sample:nuclei"]),
    "empty folder": (
        lambda data: [shutil.rmtree(data), data.mkdir()],
        2,
        ["not a data folder", "Found: nothing"],
    ),
    "no images": (
        lambda data: [path.unlink() for path in data.glob("images/*/*")],
        2,
        ["has no images"],
    ),
    "mask of another size": (_mask(np.zeros((16, 32), np.uint8)), 1, ["3.png", "32x32", "16x32"]),
    "id out of range": (_mask(np.full((32, 32), 7, np.uint8)), 1, ["3.png", "ids 7", "(0-1)", "id_map"]),
    "colour mask": (_mask(_COLORS), 1, ["3.png", "colour mask", "palette"]),
    "truncated image": (_cut("images"), 1, ["images/train/3.png", "truncated"]),
    "truncated mask": (_cut("labels"), 1, ["labels/train/3.png", "truncated"]),
    "mask missing": (lambda data: (data / "labels/train/3.png").unlink(), 1, ["3.png", "no label"]),
    "no classes.json": (
        lambda data: (data / "classes.json").unlink(),
        2,
        ["no classes.json", '{"classes": ['],
    ),
    "broken classes.json": (_write_classes('{"classes": ["a"'), 2, ["classes.json", "is not valid JSON"]),
    "classes of another kind": (_write_classes('{"classes": {"a": 0}}'), 2, ["`classes`: expected a list"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_and_no_run_folder(fault: str, data: Path, tmp_path: Path, kseg: Kseg) -> None:
    spoil, code, words = FAULTS[fault]
    bad = Path(shutil.copytree(data, tmp_path / "bad"))
    spoil(bad)
    line = kseg(*training(bad, tmp_path / "run")).error()
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()

    checked = kseg("check-data", bad)
    if code == 2:
        assert str(bad) in checked.error()
    else:
        assert checked.code == 1
        assert "Traceback" not in checked.err
        assert "3.png" in checked.out
        assert "not fit for training: 1 error" in checked.out


def test_odd_but_fit_images_are_fit(data: Path, run: Path, kseg: Kseg) -> None:
    """16-bit, CMYK and 1x1 images are in the data that `run` was trained on."""
    report = kseg("check-data", data, "--json").json()
    assert report["ok"] is True
    assert report["splits"]["train"]["images"] == 11
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["data"]["splits"] == {"train": 11, "val": 8}


@pytest.mark.parametrize("command", ["evaluate", "verify", "benchmark", "export"])
def test_commands_that_read_data_say_that_it_is_missing(
    command: str, files: dict[str, Path], tmp_path: Path, kseg: Kseg
) -> None:
    where = ["--data", tmp_path / "none"]
    if command == "export":
        where += ["--out", tmp_path / "m.tflite"]
    if command == "verify":
        where += ["--reference", files["keras"]]
    line = kseg(command, files["keras" if command == "export" else "tflite"], *where).error()
    assert f"{tmp_path / 'none'} does not exist" in line
    assert list(tmp_path.iterdir()) == []
