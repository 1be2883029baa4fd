"""Driver and GPUs: through NVML, nvidia-smi, /proc, and the bus, each faked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kseg.machine import nvidia

SMI = "NVIDIA A100-SXM4-40GB, 40960, 1024, 550.54.15, 8.0\nTesla T4, 15360, 0, 550.54.15, 7.5\n"
OLD_SMI = "Tesla K80, 11441, 0, 470.256.02\n"


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No NVML, no nvidia-smi, no driver, nothing on the bus."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(nvidia, "_PCI", tmp_path / "pci")


def nvml(**changes: object) -> ModuleType:
    """Return a pynvml with one H200."""
    fake = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    values = {
        "NVMLError": NVMLError,
        "NVMLError_LibraryNotFound": type("NVMLError_LibraryNotFound", (NVMLError,), {}),
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlSystemGetCudaDriverVersion": lambda: 13000,
        "nvmlSystemGetDriverVersion": lambda: "580.159.03",
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=150 * 2**30, used=2**30),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
        **changes,
    }
    for name, value in values.items():
        setattr(fake, name, value)
    return fake


def smi(monkeypatch: pytest.MonkeyPatch, answers: dict[bool, tuple[int, str]]) -> None:
    """Fake nvidia-smi: whether compute_cap is asked for -> (exit code, what it prints)."""

    def run(command: list[str], **options: object) -> SimpleNamespace:
        assert command[0] == "nvidia-smi"
        code, text = answers["compute_cap" in command[1]]
        return SimpleNamespace(returncode=code, stdout=text, stderr="")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_machine_without_nvidia_has_nothing() -> None:
    assert nvidia.look() == nvidia.Driver()


def test_nvml_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    found = nvidia.look()
    assert (found.version, found.cuda, found.found_by) == ("580.159.03", "13.0", "NVML")
    assert found.gpus == (nvidia.Gpu("NVIDIA H200", 150 * 2**30, 2**30, (9, 0)),)


def test_nvml_that_fails_is_told_and_nvidia_smi_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml()

    def fail() -> None:
        raise fake.NVMLError("Driver/library version mismatch")  # type: ignore[attr-defined]

    fake.nvmlInit = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert "version mismatch" in nvidia.look().problem
    smi(monkeypatch, {True: (0, SMI)})
    assert nvidia.look().found_by == "nvidia-smi"


def test_nvidia_smi_lists_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    smi(monkeypatch, {True: (0, SMI)})
    found = nvidia.look()
    assert found.version == "550.54.15"
    assert found.gpus[0] == nvidia.Gpu("NVIDIA A100-SXM4-40GB", 40960 * 2**20, 2**30, (8, 0))
    assert found.gpus[1].capability == (7, 5)


def test_old_nvidia_smi_without_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    smi(monkeypatch, {True: (2, 'Field "compute_cap" is not a valid field to query.'), False: (0, OLD_SMI)})
    assert nvidia.look().gpus == (nvidia.Gpu("Tesla K80", 11441 * 2**20, 0, None),)


def test_nvidia_smi_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    smi(
        monkeypatch,
        dict.fromkeys((True, False), (9, "NVIDIA-SMI has failed because it couldn't communicate")),
    )
    assert "couldn't communicate" in nvidia.look().problem


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build", "580.159.03"),
    ],
)
def test_the_drivers_own_files(tmp_path: Path, line: str, version: str) -> None:
    gpu = tmp_path / "proc" / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (tmp_path / "proc" / "version").write_text(line + "\nGCC version: gcc 12\n")
    (gpu / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   \t\t 35\n")
    found = nvidia.look()
    assert found.version == version
    assert found.gpus == (nvidia.Gpu("NVIDIA L4"),)
    assert not found.found_by.startswith("/")


def test_a_gpu_without_a_driver_is_counted_on_the_bus(tmp_path: Path) -> None:
    for index, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    ):
        device = tmp_path / "pci" / f"0000:0{index}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert nvidia.look().bare_gpus == 1
