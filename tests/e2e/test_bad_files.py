"""Model files that are damaged, cut short, empty or not ours; pictures that cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import Kseg, odd_images


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], tuple[str, ...]]] = {
    "empty": (lambda content: b"", ("is empty (0 bytes)",)),
    "cut": (
        lambda content: content[: len(content) // 2],
        ("truncated", "cut short", "not a whole"),
    ),
    "changed": (_flipped, ("is damaged",)),
    "another format": (lambda content: b"\x89PNG\r\n\x1a\n" * 99, ("not a", "not an")),
}


@pytest.mark.parametrize("kind", ["keras", "tflite", "onnx", "engine"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_every_command_refuses_a_bad_file_in_the_same_words(
    damage: str, kind: str, files: dict[str, Path], data: Path, tmp_path: Path, kseg: Kseg
) -> None:
    if kind not in files:
        pytest.skip("no TensorRT is installed")
    spoil, words = DAMAGE[damage]
    bad = tmp_path / f"bad.{kind}"
    bad.write_bytes(spoil(files[kind].read_bytes()))
    pictures = data / "images" / "val"
    lines = {
        kseg("inspect", bad).error(),
        kseg("predict", bad, pictures, "--out", tmp_path / "out").error(),
        kseg("evaluate", bad, "--data", data).error(),
        kseg("verify", bad, "--reference", files["keras"], "--data", data).error(),
        kseg("verify", files["tflite"], "--reference", bad, "--data", data).error()
        if kind == "keras"
        else kseg("benchmark", bad).error(),
    }
    if kind == "keras":
        lines.add(kseg("export", bad, "--no-verify", "--out", tmp_path / "m.tflite").error())
    assert len(lines) == 1, lines
    line = lines.pop()
    assert str(bad) in line
    assert any(word in line for word in words), line
    assert os.listdir(tmp_path) == [bad.name]


def test_a_tflite_that_is_not_ours_says_what_it_lacks(
    files: dict[str, Path], data: Path, tmp_path: Path, kseg: Kseg
) -> None:
    """A whole TFLite file as another tool writes it: ours without the spec behind it."""
    from deploy.tflite import container

    alien = tmp_path / "alien.tflite"
    alien.write_bytes(container.read_model(files["tflite"])[0])
    for command, more in (
        ("inspect", []),
        ("predict", [data / "images" / "val", "--out", tmp_path / "out"]),
        ("evaluate", ["--data", data]),
        ("verify", ["--reference", files["keras"], "--data", data]),
        ("benchmark", []),
    ):
        line = kseg(command, alien, *more).error()
        assert "carries no kseg spec" in line
        assert "kseg export" in line
    assert os.listdir(tmp_path) == [alien.name]


def test_names_that_are_no_model_file(data: Path, tmp_path: Path, kseg: Kseg) -> None:
    (tmp_path / "m.pt").write_bytes(b"x")
    for name, words in (("none.tflite", "none.tflite"), ("m.pt", ".tflite"), (".", "is a folder")):
        assert words in kseg("inspect", tmp_path / name).error()
    line = kseg(
        "evaluate", tmp_path / "none.keras", "--data", data, "--out", tmp_path / "scores.json"
    ).error()
    assert "none.keras' does not exist" in line
    assert os.listdir(tmp_path) == ["m.pt"]


def test_predict_takes_every_kind_of_picture_and_names_the_broken_ones(
    files: dict[str, Path], tmp_path: Path, kseg: Kseg
) -> None:
    pictures = tmp_path / "in"
    odd_images(pictures)
    good = kseg("predict", files["tflite"], pictures, "--out", tmp_path / "out", "--json")
    assert good.code == 0
    sizes = {Path(entry["image"]).name: (entry["height"], entry["width"]) for entry in good.json()["images"]}
    assert sizes == {"deep.png": (32, 32), "print.jpg": (32, 32), "dot.png": (1, 1)}

    deep = pictures / "deep.png"
    (pictures / "cut.png").write_bytes(deep.read_bytes()[: deep.stat().st_size // 2])
    (pictures / "notes.jpg").write_text("no picture")
    ran = kseg("predict", files["tflite"], pictures, "--out", tmp_path / "more", "--json")
    assert ran.code == 2
    assert {Path(entry["image"]).name for entry in ran.json()["failed"]} == {"cut.png", "notes.jpg"}
    lines = [line for line in ran.err.splitlines() if line.startswith("kseg: ")]
    assert len(lines) == 3  # one for each, and the sum
    assert "2 of 5 images could not be read; the others are done" in lines[-1]
    assert len(list((tmp_path / "more").iterdir())) == 3 * len(sizes)


def test_report_needs_a_finished_run(run: Path, tmp_path: Path, kseg: Kseg) -> None:
    assert "model.keras is missing" in kseg("report", tmp_path).error()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert list(tmp_path.iterdir()) == []
