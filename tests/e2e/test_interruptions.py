"""Ctrl-C, kill -9 and full disks at the command line: whole files or none, and a way on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import Kseg, Ran, leftovers, private_disk, training

import deploy
from kseg.saving import load

# Python ends itself by the signal when the interrupt passed through code that it compiled from text.
INTERRUPTED = (130, -signal.SIGINT)


def _stopped(arguments: list[object], moment: Callable[[], bool], how: signal.Signals) -> Ran:
    """Start a command, send it `how` as soon as `moment()` holds, and return how it ended."""
    command = [sys.executable, "-m", "kseg", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the moment did not come: {process.communicate()}")
        time.sleep(0.005)
    process.send_signal(how)
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def _epochs(run: Path) -> int:
    file = run / "history.csv"
    if not file.is_file():
        return 0
    with open(file, newline="") as handle:
        return len(list(csv.DictReader(handle)))


def test_training_survives_ctrl_c_and_kill(data: Path, tmp_path: Path, kseg: Kseg) -> None:
    """Ctrl-C, --resume, kill -9, --resume: each goes on behind the last whole epoch."""
    out = tmp_path / "run"
    epochs = 40  # many more than pass until the signals
    start = training(data, out, "--epochs", epochs, "--val-every", epochs)
    stopped = _stopped(start, lambda: _epochs(out) >= 1, signal.SIGINT)
    assert stopped.code in INTERRUPTED
    assert stopped.error(stopped.code).endswith(f"epochs; go on with: kseg train --resume --out {out}")
    assert stopped.err.count("interrupted") == 1
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert leftovers(out) == []
    first = _epochs(out)
    assert 1 <= first < epochs

    killed = _stopped(["train", "--resume", "--out", out], lambda: _epochs(out) >= first + 2, signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    second = _epochs(out)
    assert first + 2 <= second < epochs
    resumed = kseg("train", "--resume", "--out", out)
    assert resumed.code == 0, resumed.err
    found = int(resumed.err.split("resuming behind epoch ")[1].split()[0])
    assert second <= found <= second + 1  # the checkpoint is written just before the history's line
    assert _epochs(out) == epochs
    assert json.loads((out / "run.json").read_text())["status"] == "finished"
    assert load(out / "model.keras").spec.classes == ("background", "square")
    assert leftovers(out) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_export_stopped_in_the_middle_leaves_the_old_file(
    how: signal.Signals, files: dict[str, Path], tmp_path: Path, kseg: Kseg
) -> None:
    out = tmp_path / "model.tflite"
    before = files["tflite"].read_bytes()
    out.write_bytes(before)
    arguments = ["export", files["keras"], "--precision", "float16", "--no-verify", "--out", out]
    ran = _stopped(arguments, lambda: bool(leftovers(tmp_path)), how)
    assert out.read_bytes() == before
    if how == signal.SIGINT:
        assert ran.code in INTERRUPTED
        assert "interrupted" in ran.error(ran.code)
        assert os.listdir(tmp_path) == [out.name]
        return
    assert ran.code == -signal.SIGKILL
    assert deploy.read_spec(out).export["precision"] == "float32"
    assert kseg(*arguments).code == 0
    assert deploy.read_spec(out).export["precision"] == "float16"
    assert os.listdir(tmp_path) == [out.name]


# In one process, because importing TensorFlow is what costs. After each command: code, stderr, files left.
SCRIPT = """
import contextlib, io, json, pathlib, shutil, sys
from kseg.cli.main import main

disk = pathlib.Path(sys.argv[1])
for arguments in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    left = {str(path.relative_to(disk)): path.stat().st_size for path in disk.rglob("*") if path.is_file()}
    print(json.dumps([code, said.getvalue(), left]))
    for entry in disk.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
"""


def test_a_full_disk(files: dict[str, Path], data: Path, run: Path, tmp_path: Path) -> None:
    """A disk of 24 KiB: no model, export or report fits, and only some of the predicted pictures."""
    disk = tmp_path / "disk"
    disk.mkdir()
    start = private_disk(disk, "size=24k")
    exported = ["export", files["keras"], "--no-verify", "--out"]
    commands: dict[str, list[object]] = {
        "predict": ["predict", files["tflite"], data / "images" / "val", "--out", disk / "pictures"],
        "tflite": [*exported, disk / "m.tflite"],
        "onnx": [*exported, disk / "m.onnx"],
        "report": ["report", run, "--data", data, "--out", disk / "report.html"],
        "train": training(data, disk / "run"),
    }
    typed = json.dumps([[str(word) for word in arguments] for arguments in commands.values()])
    command = [*start, sys.executable, "-c", SCRIPT, str(disk), typed]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands), done.stderr
    for name, line in zip(commands, lines, strict=True):
        code, err, left = json.loads(line)
        message = Ran(code, "", err).error()
        assert f"no space left on device while writing '{disk}" in message, name
        assert not any(".kseg-" in file for file in left), (name, left)
        if name == "predict":
            assert 0 < len(left) < 24  # of 8 images, 3 each
            assert min(left.values()) > 0
        elif name == "train":
            assert set(left) <= {"run/run.json", "run/.lock"}
        else:
            assert left == {}, name
