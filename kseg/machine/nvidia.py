"""NVIDIA's driver and GPUs as the system knows them, whether or not a backend sees them.

Asked are, until one answers: NVML (through `nvidia-ml-py`, of the extras `gpu` and `jax-cuda`), `nvidia-smi`,
and the driver's own files below `/proc`. Last, the PCI bus says whether there is a GPU without a driver.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 2**20
_PROC = Path("/proc/driver/nvidia")
_PCI = Path("/sys/bus/pci/devices")
_VENDOR = "0x10de"
# PCI class of display controllers: VGA, 3D.
_DISPLAY = "0x03"
_SMI_SECONDS = 30
_SMI_FIELDS = ("name", "memory.total", "memory.used", "driver_version", "compute_cap")

Capability = tuple[int, int]


@dataclass(frozen=True)
class Gpu:
    """One GPU. `memory_bytes` and `used_bytes` are its own memory; None: not known."""

    name: str
    memory_bytes: int | None = None
    used_bytes: int | None = None
    capability: Capability | None = None


@dataclass(frozen=True)
class Driver:
    """What the system knows.

    Args:
        version: of the driver, such as `"580.159.03"`; None: there is none.
        cuda: newest CUDA that the driver runs, such as `"13.0"`; None: not known.
        gpus: the GPUs that the driver manages.
        found_by: who answered; empty: nobody.
        problem: what NVML or `nvidia-smi` complained of; empty: nothing.
        bare_gpus: NVIDIA GPUs on the PCI bus, counted only where no driver answered.
    """

    version: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    found_by: str = ""
    problem: str = ""
    bare_gpus: int = 0


def look() -> Driver:
    """Ask NVML, then `nvidia-smi`, then `/proc`, then the PCI bus."""
    problems = []
    for ask in (_nvml, _smi, _proc):
        found = ask()
        if found.version is not None:
            return found
        if found.problem:
            problems.append(found.problem)
    return Driver(problem="; ".join(problems), bare_gpus=_on_the_bus())


def _nvml() -> Driver:
    try:
        import pynvml
    except ImportError:
        return Driver()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Driver()
    except pynvml.NVMLError as error:
        return Driver(problem=f"NVML: {error}")
    try:
        gpus = tuple(_nvml_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        version = _text(pynvml.nvmlSystemGetDriverVersion())
        return Driver(version, f"{cuda // 1000}.{cuda % 1000 // 10}", gpus, "NVML")
    except pynvml.NVMLError as error:
        return Driver(problem=f"NVML: {error}")
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(_text(nvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.used), (major, minor))


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _smi() -> Driver:
    # Drivers before 510 do not know `compute_cap`.
    problem = ""
    for fields in (_SMI_FIELDS, _SMI_FIELDS[:-1]):
        try:
            done = subprocess.run(
                ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_SMI_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            return Driver()
        except (OSError, subprocess.TimeoutExpired) as error:
            return Driver(problem=f"nvidia-smi: {error}")
        rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
        rows = [row for row in rows if len(row) == len(fields)]
        if done.returncode == 0 and rows:
            return Driver(rows[0][3], None, tuple(map(_smi_gpu, rows)), "nvidia-smi")
        problem = " ".join((done.stdout or done.stderr).split())
    return Driver(problem=f"nvidia-smi: {problem[:200] or 'it lists no GPU'}")


def _smi_gpu(row: list[str]) -> Gpu:
    total, used = (int(cell) * MIB if cell.isdigit() else None for cell in row[1:3])
    match = re.fullmatch(r"(\d+)\.(\d+)", row[4]) if len(row) > 4 else None
    return Gpu(row[0], total, used, (int(match[1]), int(match[2])) if match else None)


def _proc() -> Driver:
    try:
        version = re.search(r"Module\b.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s", (_PROC / "version").read_text())
        names = [
            re.search(r"^Model:\s*(.+?)\s*$", file.read_text(errors="replace"), re.MULTILINE)
            for file in sorted((_PROC / "gpus").glob("*/information"))
        ]
    except OSError:
        return Driver()
    if version is None:
        return Driver()
    gpus = tuple(Gpu(name[1] if name else "NVIDIA GPU") for name in names)
    return Driver(version[1], None, gpus, "the driver's own files")


def _on_the_bus() -> int:
    count = 0
    for device in _PCI.glob("*") if _PCI.is_dir() else ():
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        count += vendor == _VENDOR and kind.startswith(_DISPLAY)
    return count
