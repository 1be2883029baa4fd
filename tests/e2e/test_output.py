"""Where output goes: `--json` alone on stdout, closed pipes, full disks, folders without access."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typed import Kseg, Ran, private_disk, typed

from kseg.cli import main as frame

# The network was trained for a moment only.
GIVEN_UP = ("--max-miou-drop", "100", "--allow-near-chance")
# Command -> its arguments besides --json; `kseg models --json` is tested with the models.
WITH_JSON = {
    "convert-data": ["DATA", "--out", "TMP/converted"],
    "doctor": [],
    "find-lr": [
        *("--model", "unet", "--model-args", '{"width": 0.0625, "depth": 1}', "--data", "DATA"),
        *("--steps", "20", "--batch-size", "2", "--precision", "float32", "--out", "TMP/find-lr"),
    ],
    "check-data": ["DATA"],
    "class-weights": ["DATA"],
    "rebuild": ["keras", "--model-args", '{"dropout": 0.25}', "--out", "TMP/again.keras"],
    "train-segments": [
        "keras",
        *("--data", "DATA", "--layer", "up0_2_relu", "--limit", "2", "--epochs", "1"),
        *("--out", "TMP/segments.keras"),
    ],
    "evaluate": ["tflite", "--data", "DATA"],
    "predict": ["tflite", "PICTURES", "--out", "TMP/predicted"],
    "export": ["keras", "--data", "DATA", "--out", "TMP/m.onnx", *GIVEN_UP],
    "verify": ["COPY", "--reference", "keras", "--data", "DATA", *GIVEN_UP],
    "benchmark": ["tflite", "--repeats", "1"],
    "inspect": ["tflite"],
    "report": ["RUN", "--out", "TMP/report.html"],
}


def test_the_list_is_complete() -> None:
    having = set()
    for command in frame.commands():
        parser = argparse.ArgumentParser()
        frame._load(command).add_arguments(parser)
        if "--json" in parser.format_help():
            having.add(command)
    assert having == {*WITH_JSON, "models"}


@pytest.mark.parametrize("command", WITH_JSON)
def test_json_is_alone_on_stdout(
    command: str, files: dict[str, Path], data: Path, run: Path, tmp_path: Path, kseg: Kseg
) -> None:
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(files["tflite"].read_bytes())
    places = {**files, "DATA": data, "PICTURES": data / "images" / "val", "RUN": run, "COPY": copy}
    arguments = [places.get(word, word.replace("TMP", str(tmp_path))) for word in WITH_JSON[command]]
    ran = kseg(command, *arguments, "--json")
    assert ran.code == 0, ran.err
    assert isinstance(ran.json(), dict)
    assert "{" not in ran.err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_closed_pipe_is_no_error(more: list[str], files: dict[str, Path]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "kseg", "inspect", str(files["tflite"]), *more]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux'")
def test_a_full_disk_behind_stdout(files: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "kseg", "inspect", str(files["tflite"]), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "no space left" in Ran(done.returncode, "", done.stderr).error()


def test_a_folder_that_cannot_be_written_to(files: dict[str, Path], data: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    pictures = data / "images" / "val"
    arguments = ["predict", files["tflite"], pictures, "--out", closed / "out"]
    if os.geteuid():
        closed.chmod(0o500)
        ran = typed(*arguments)
    else:
        ran = typed(*arguments, before=private_disk(closed, "ro"))
    line = ran.error()
    assert str(closed) in line
    assert "choose a folder that you may write to" in line
    assert list(closed.iterdir()) == []
