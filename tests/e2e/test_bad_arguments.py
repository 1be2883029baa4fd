"""Wrong words after a command: one line that names what is known or near, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typed import Kseg, training

TRAIN = {
    "model": (["--model", "unett"], ["'unett'", "Did you mean", "UNet"]),
    "encoder": (
        ["--model", "fcn8s", "--model-args", "{}", "--encoder", "resnet19"],
        ["'resnet19'", "Did you mean 'resnet18'?"],
    ),
    "precision": (["--precision", "flot32"], ["--precision", "flot32", "float32"]),
    "not JSON": (["--model-args", "{width: 1}"], ["--model-args", "{width: 1}", '{"width": 0.25}']),
    "JSON of another kind": (["--model-args", "[1]"], ["--model-args", "expected an object, found a list"]),
    "unknown key": (["--model-args", '{"widht": 1}'], ["`widht`", "Did you mean 'width'?"]),
    "value of another kind": (["--model-args", '{"width": "big"}'], ["`width`", "'big'"]),
    "value out of range": (["--model-args", '{"width": -1}'], ["`width`", "-1"]),
    "loss": (["--loss", "crossentropie"], ["crossentropie", "Did you mean"]),
    "loss argument": (["--loss-args", '{"gama": 2}', "--loss", "focal"], ["gama"]),
    "split": (["--train-split", "trian"], ["no split 'trian'", "Did you mean 'train'?", "val"]),
    "slice": (["--train-split", "train[:x%]"], ["train[:x%]", "train[:50%]"]),
    "weights": (["--model", "fcn8s", "--model-args", "{}", "--weights", "none.h5"], ["none.h5"]),
    "out": (["--out", __file__], ["must be a folder"]),
}


@pytest.mark.parametrize("wrong", TRAIN)
def test_train(wrong: str, data: Path, tmp_path: Path, kseg: Kseg) -> None:
    arguments, words = TRAIN[wrong]
    line = kseg(*training(data, tmp_path / "run", *arguments)).error()
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "tflight"], ["'tflight'", "Did you mean 'tflite'?", "onnx"]),
        (["--out", "m.pb"], [".pb", ".tflite"]),
        (["--to", "onnx", "--out", "m.tflite"], ["must end in '.onnx'"]),
        (["--to", "tflite", "--precision", "flot16"], ["flot16", "Did you mean 'float16'?"]),
        (["--to", "onnx", "--precision", "int8"], ["int8", "float16"]),
        (["--to", "tflite", "--dynamic", "batch"], ["dynamic", "batch"]),
        (["--to", "tflite", "--size", "32by32"], ["HEIGHTxWIDTH", "'32by32'"]),
    ],
)
def test_export(
    arguments: list[str],
    words: list[str],
    files: dict[str, Path],
    kseg: Kseg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = kseg("export", files["keras"], "--no-verify", *arguments).error()
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "verify", "benchmark"])
def test_unknown_split(command: str, files: dict[str, Path], data: Path, kseg: Kseg) -> None:
    more = ["--reference", files["keras"]] if command == "verify" else []
    line = kseg(command, files["tflite"], "--data", data, "--split", "tset", *more).error()
    assert "no split 'tset'" in line
    assert "It has: train, val" in line


def test_debug_shows_the_traceback_and_keeps_the_exit_code(kseg: Kseg, tmp_path: Path) -> None:
    ran = kseg("check-data", tmp_path / "none", "--debug")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("kseg: Data folder")


def test_a_bug_is_one_line_with_a_code_of_its_own(kseg: Kseg, monkeypatch: pytest.MonkeyPatch) -> None:
    from kseg.cli import check_data

    def fail(args: object) -> int:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(check_data, "run", fail)
    line = kseg("check-data", "anything").error(code=70)
    assert line == (
        "kseg: internal error: ZeroDivisionError: division by zero. Run again with --debug for the traceback"
    )
