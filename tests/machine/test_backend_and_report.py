"""What the real backends here say, memory growth, and the record of a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kseg.machine import backend, host, report
from kseg.machine.backend import Backend, Device
from kseg.machine.nvidia import Driver, Gpu
from kseg.machine.report import Machine, without_paths

H200 = Device("NVIDIA H200", "gpu", (9, 0))
DRIVER = Driver("580.159.03", "13.0", (Gpu("NVIDIA H200", 140 * 2**30, 2**30, (9, 0)),), "NVML")
SEEN = Backend("tensorflow", "2.21.0", (H200, Device("CPU", "cpu")), with_cuda=True, cuda="12.5.1")

ASK = """
import json, sys
if {blocked!r}:
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == {blocked!r}:
                raise ModuleNotFoundError("No module named " + repr(name))
    sys.meta_path.insert(0, Refuse())
from kseg.machine import report
print(json.dumps(report.examine().to_dict()))
"""


def ask(backend_name: str, blocked: str = "") -> dict:
    """Examine this machine in a process of its own."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend_name,
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(blocked=blocked)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_the_backend_of_this_machine(name: str) -> None:
    pytest.importorskip(name)
    found = ask(name)
    assert found["backend"]["name"] == name
    assert found["backend"]["version"] == found["libraries"].get(name, found["libraries"].get(f"{name}-cpu"))
    assert [device["kind"] for device in found["devices"]] == ["cpu"]
    assert found["runs_on"].startswith("CPU: ")


def test_without_tensorflow_it_is_an_error_and_no_traceback() -> None:
    found = ask("tensorflow", blocked="tensorflow")
    assert "No module named" in found["backend"]["problem"]
    assert found["findings"][0]["level"] == "error"
    assert found["devices"] == []


def test_jax_devices_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")

    class Card:
        device_kind, platform, compute_capability = "NVIDIA T4", "gpu", "7.5"

    monkeypatch.setattr(jax, "devices", lambda: [Card()])
    assert backend._jax("jax").devices == (Device("NVIDIA T4", "gpu", (7, 5)),)


def test_tensorflow_devices_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tf = pytest.importorskip("tensorflow")

    class Card:
        name = "/physical_device:GPU:0"

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [Card()] if kind == "GPU" else [])
    details = {"device_name": "NVIDIA A100", "compute_capability": (8, 0)}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert backend._tensorflow("tensorflow").gpus == (Device("NVIDIA A100", "gpu", (8, 0)),)


def test_memory_grows_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (*backend.GROWTH, *backend._JAX_SHARES)
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    backend.grow_memory()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", ".9")
    backend.grow_memory()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ


def test_a_gpu_is_told_with_memory_capability_and_driver() -> None:
    machine = Machine(DRIVER, SEEN, (), "a processor", 8, 2**34)
    assert machine.runs_on() == (
        "GPU: NVIDIA H200 (140.0 GiB, compute capability 9.0, driver 580.159.03); tensorflow 2.21.0"
    )
    told = machine.to_dict()
    assert told["devices"][0]["memory_bytes"] == 140 * 2**30
    assert told["gpus"][0]["capability"] == "9.0"
    json.dumps(told, allow_nan=False)


def test_no_local_path_is_told() -> None:
    broken = Backend("jax", problem="/home/anna/venv/lib/libcudart.so.12: cannot open '~/x/y.so' at ./a/b.py")
    text = json.dumps(Machine(DRIVER, broken, (), "p", 1, None).to_dict())
    assert "anna" not in text
    assert "libcudart.so.12" in text
    assert without_paths("see https://docs.nvidia.com/deploy/x") == "see https://docs.nvidia.com/deploy/x"


def test_memory_of_a_container_bounds_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "meminfo": "MemTotal: 900 kB\nMemAvailable:   800 kB\n",
        "max": "500000\n",
        "current": "200000\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(host, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host, "_CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert host.available_bytes() == 300_000
    (tmp_path / "max").write_text("max\n")
    assert host.available_bytes() == 800 * 1024


def test_the_real_machine_is_examined() -> None:
    found = report.examine()
    assert found.cores >= 1
    assert found.processor
