"""Whole files or none: Ctrl-C, kill -9 and a full disk in the middle of an export."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import deploy
from deploy import template

ROOT = Path(__file__).resolve().parents[2]


def test_ctrl_c_leaves_what_was_there(toy, tmp_path, monkeypatch):
    def interrupt(path):
        assert path.stat().st_size > 0
        raise KeyboardInterrupt

    path = tmp_path / "m.tflite"
    path.write_bytes(b"older")
    monkeypatch.setattr(template, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        deploy.export(toy, path, verify=False)
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["m.tflite"]


KILL = """
import os, shutil, signal, sys
from types import SimpleNamespace
import numpy as np
import deploy
from deploy import template
from deploy.conversion import Probe, Request
from deploy.tflite.export import TFLiteExporter
from pathlib import Path

source, out = map(Path, sys.argv[1:])
spec = deploy.read_spec(source)

def converted(model, spec, path, request):
    shutil.copy(source, path)
    return Probe(np.zeros((1, *request.size, 3)), {"logits": np.zeros((1, *request.size, 2))})

def die(path):
    os.kill(os.getpid(), signal.SIGKILL)

template.convert, template.load = converted, die
request = Request(format="tflite", precision="float32", size=spec.input_size, outputs=("logits",))
job = template.Job(model=None, spec=spec, out=out, request=request, calibration=None, verify=None)
TFLiteExporter(job).run()
"""


def test_kill_leaves_no_half_file(exported, toy, tmp_path):
    path = tmp_path / "m.tflite"
    ran = subprocess.run(
        [sys.executable, "-c", KILL, exported["tflite"], path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert not path.exists()
    assert all(name.startswith(".kseg-") for name in os.listdir(tmp_path))
    deploy.export(toy, path, verify=False)
    assert os.listdir(tmp_path) == ["m.tflite"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 8 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
def test_full_disk(name, toy, tiny_disk):
    with pytest.raises(OSError, match="space") as caught:
        deploy.export(toy, tiny_disk / name, verify=False)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tiny_disk) == []
