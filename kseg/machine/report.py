"""Everything that is known of this machine in one place, for people, for `run.json` and for `kseg doctor`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from kseg.machine import advice, backend, host, nvidia
from kseg.machine.advice import Finding
from kseg.machine.backend import Backend, Device
from kseg.machine.nvidia import Driver

GIB = 2**30
# Distributions that bring devices, backends and runtimes.
LIBRARIES = (
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "nvidia-cuda-runtime-cu12",
    "nvidia-ml-py",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tf2onnx",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "numpy",
    "opencv-contrib-python-headless",
    "tensorflow-datasets",
)
_PATH = re.compile(r"(?<![\w:/])(?:~|\.{0,2})/(?:[^\s/'\":]+/)+")


@dataclass(frozen=True)
class Machine:
    """A machine as kseg found it.

    Args:
        driver: what the system knows of NVIDIA GPUs.
        seen: what Keras' backend sees.
        findings: what is missing or wrong.
        processor: its name.
        cores: that this process may use.
        free_bytes: of memory; None: not known.
    """

    driver: Driver
    seen: Backend
    findings: tuple[Finding, ...]
    processor: str
    cores: int
    free_bytes: int | None

    def memory_of(self, device: Device) -> int | None:
        """Return the bytes of a backend's device, as the driver tells them."""
        return next((gpu.memory_bytes for gpu in self.driver.gpus if gpu.name == device.name), None)

    def runs_on(self) -> str:
        """Return in a few words what the backend computes on."""
        by = f"{self.seen.name} {self.seen.version}".strip()
        if not self.seen.accelerators:
            return f"CPU: {self.processor}, {self.cores} cores; {by}"
        device = self.seen.accelerators[0]
        size, capability = self.memory_of(device), device.capability
        facts = [f"{size / GIB:.1f} GiB"] if size else []
        facts += [f"compute capability {capability[0]}.{capability[1]}"] if capability else []
        facts += [f"driver {self.driver.version}"] if self.driver.version else []
        details = f" ({', '.join(facts)})" if facts else ""
        return f"{device.kind.upper()}: {device.name}{details}; {by}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values without local paths: run folders and reports travel."""
        driver = self.driver
        return {
            "runs_on": self.runs_on(),
            "backend": {
                "name": self.seen.name,
                "version": self.seen.version,
                "with_cuda": self.seen.with_cuda,
                "cuda": self.seen.cuda,
                "problem": without_paths(self.seen.problem),
            },
            "devices": [
                {
                    "name": device.name,
                    "kind": device.kind,
                    "memory_bytes": self.memory_of(device),
                    "compute_capability": _dotted(device.capability),
                }
                for device in self.seen.devices
            ],
            "driver": {
                "version": driver.version,
                "cuda": driver.cuda,
                "found_by": driver.found_by,
                "problem": without_paths(driver.problem),
            },
            "gpus": [{**asdict(gpu), "capability": _dotted(gpu.capability)} for gpu in driver.gpus],
            "processor": self.processor,
            "cores": self.cores,
            "free_bytes": self.free_bytes,
            "libraries": {name: found for name in LIBRARIES if (found := backend.version(name))},
            "findings": [
                {**asdict(item), "text": without_paths(item.text), "remedy": without_paths(item.remedy)}
                for item in self.findings
            ],
        }


def examine() -> Machine:
    """Look at driver, GPUs, processor and memory, and at what Keras' backend sees; imports Keras."""
    driver, seen = nvidia.look(), backend.look()
    return Machine(
        driver=driver,
        seen=seen,
        findings=tuple(advice.findings(driver, seen)),
        processor=host.processor(),
        cores=host.cores(),
        free_bytes=host.available_bytes(),
    )


def without_paths(text: str) -> str:
    """Return `text` with the folders of every local path left out: they tell whose machine it was."""
    return _PATH.sub("", text)


def _dotted(capability: tuple[int, int] | None) -> str | None:
    return None if capability is None else f"{capability[0]}.{capability[1]}"
