"""What is found on machines of every kind, and the remedy that is named."""

from __future__ import annotations

import pytest

from kseg.machine import advice
from kseg.machine.advice import findings
from kseg.machine.backend import Backend, Device
from kseg.machine.nvidia import Driver, Gpu

A100 = Driver("550.54.15", "12.4", (Gpu("NVIDIA A100", 40 * 2**30, 0, (8, 0)),), "NVML")
CPU = Device("CPU", "cpu")
SEEING = Device("NVIDIA A100", "gpu", (8, 0))
TENSORFLOW = {"name": "tensorflow", "version": "2.21.0", "with_cuda": True, "cuda": "12.5.1"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The distributions that are there: all that TensorFlow needs."""
    there = {"tensorflow": "2.21.0", "nvidia-cudnn-cu12": "9.3"}
    monkeypatch.setattr(advice, "version", lambda *names: next((there[n] for n in names if n in there), ""))
    return there


def blind(**changes: object) -> Backend:
    return Backend(**{**TENSORFLOW, "devices": (CPU,), **changes})  # type: ignore[arg-type]


def test_a_gpu_that_is_seen_and_a_machine_without_one_are_both_in_order() -> None:
    assert findings(A100, blind(devices=(SEEING, CPU)), {}) == []
    assert findings(Driver(), blind(), {}) == []


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu(hidden: str) -> None:
    (found,) = findings(A100, blind(), {"CUDA_VISIBLE_DEVICES": hidden})
    assert found.level == "warning"
    assert "NVIDIA A100" in found.text
    assert "CUDA_VISIBLE_DEVICES" in found.remedy


def test_missing_cuda_libraries_name_the_extra(installed: dict[str, str]) -> None:
    del installed["nvidia-cudnn-cu12"]
    (found,) = findings(A100, blind(), {})
    assert 'pip install "kseg[gpu]"' in found.remedy
    (found,) = findings(A100, blind(name="jax", with_cuda=False, cuda=""), {})
    assert 'pip install "kseg[jax-cuda]"' in found.remedy


def test_a_driver_that_is_too_old() -> None:
    old = Driver("470.256.02", None, A100.gpus, "nvidia-smi")
    (found,) = findings(old, blind(), {})
    assert "525 or newer; here is 470.256.02" in found.remedy
    (found,) = findings(A100, blind(name="jax", cuda="13"), {})
    assert "580 or newer; here is 550.54.15" in found.remedy


def test_jax_told_to_use_the_cpu() -> None:
    (found,) = findings(A100, blind(name="jax", cuda="12"), {"JAX_PLATFORMS": "cpu"})
    assert "JAX_PLATFORMS" in found.remedy


@pytest.mark.parametrize(
    ("name", "words"), [("tensorflow", "LD_LIBRARY_PATH"), ("jax", "JAX_PLATFORMS=cuda")]
)
def test_when_nothing_explains_it_the_way_to_find_out_is_shown(name: str, words: str) -> None:
    (found,) = findings(A100, blind(name=name, cuda="12"), {})
    assert words in found.remedy


def test_no_tensorflow(installed: dict[str, str]) -> None:
    broken = Backend("tensorflow", problem="No module named 'tensorflow'")
    installed.clear()
    (found,) = findings(Driver(), broken, {})
    assert found.level == "error"
    assert "pip install" in found.remedy
    installed["jax"] = "0.10.2"
    (found,) = findings(A100, broken, {})
    assert found.remedy.endswith("KERAS_BACKEND=jax")


def test_a_gpu_without_a_driver_and_a_driver_that_does_not_answer() -> None:
    (found,) = findings(Driver(bare_gpus=2), blind(), {})
    assert "2 NVIDIA GPUs" in found.text
    assert "driver" in found.remedy
    (found,) = findings(Driver(problem="NVML: Driver/library version mismatch"), blind(), {})
    assert "reboot" in found.remedy


def test_several_gpus_are_a_note() -> None:
    (found,) = findings(A100, blind(devices=(SEEING, SEEING, CPU)), {})
    assert found.level == "note"
    assert "CUDA_VISIBLE_DEVICES=1" in found.remedy
