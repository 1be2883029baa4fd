"""What stands between this machine and its GPU, each with its remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kseg.machine.backend import Backend, version
from kseg.machine.nvidia import Driver

# NVIDIA, "CUDA Compatibility", minor version compatibility: the oldest driver for each major version of CUDA.
OLDEST_DRIVER = {12: 525, 13: 580}
ERROR, WARNING, NOTE = "error", "warning", "note"
_EXTRA = {"tensorflow": "gpu", "jax": "jax-cuda"}


@dataclass(frozen=True)
class Finding:
    """One thing that is missing or wrong: `level` is error, warning or note."""

    level: str
    text: str
    remedy: str

    def line(self) -> str:
        """Return both in one line."""
        return f"{self.text}. {self.remedy}"


def findings(driver: Driver, backend: Backend, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Return what is wrong with driver and backend, the worst first.

    Args:
        driver: what the system knows of NVIDIA GPUs.
        backend: what Keras' backend sees.
        environment: variables that hide devices are looked up here; None: those of this process.
    """
    env = os.environ if environment is None else environment
    found = []
    if backend.problem:
        found.append(_unusable(backend))
    if driver.bare_gpus:
        found.append(_no_driver(driver))
    elif driver.problem and driver.version is None:
        text = f"NVIDIA's driver does not answer ({driver.problem})"
        found.append(Finding(WARNING, text, "After an update of the driver: reboot; else install it again"))
    if driver.gpus and not backend.problem and not backend.accelerators:
        found.append(_blind(driver, backend, env))
    if len(backend.gpus) > 1:
        text = f"{backend.name} sees {len(backend.gpus)} GPUs, and a run trains on the first"
        found.append(Finding(NOTE, text, "Another one: CUDA_VISIBLE_DEVICES=1 kseg train ..."))
    return found


def _unusable(backend: Backend) -> Finding:
    others = [name for name in ("tensorflow", "jax") if name != backend.name and version(name)]
    if others:
        remedy = f"Use the one that is installed: KERAS_BACKEND={others[0]}"
    else:
        remedy = 'Run: pip install "kseg[gpu]" (on a machine without a GPU: pip install kseg)'
    return Finding(ERROR, f"Keras' backend {backend.name} cannot be used ({backend.problem})", remedy)


def _no_driver(driver: Driver) -> Finding:
    told = f" ({driver.problem})" if driver.problem else ""
    text = f"This machine has {_count(driver.bare_gpus, 'NVIDIA GPU')}, but no driver answers{told}"
    return Finding(
        WARNING, text, "Install NVIDIA's driver and reboot; in a container: docker run --gpus all ..."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _blind(driver: Driver, backend: Backend, env: Mapping[str, str]) -> Finding:
    """The machine has a GPU and the backend computes on the CPU: say why, as far as it can be told."""
    name = driver.gpus[0].name
    text = f"This machine has {name}, but {backend.name} {backend.version} does not see it"
    extra = _EXTRA.get(backend.name)
    remedy = f"See docs/gpu.md; {backend.name} needs its own build for NVIDIA GPUs"
    hidden = env.get("CUDA_VISIBLE_DEVICES")
    platforms = env.get("JAX_PLATFORMS", "")
    oldest = _oldest_driver(backend)
    if hidden is not None and hidden.strip() in ("", "-1"):
        remedy = f"CUDA_VISIBLE_DEVICES={hidden!r} hides it: unset it"
    elif backend.name == "jax" and platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        remedy = f"JAX_PLATFORMS={platforms!r} hides it: unset it"
    elif extra and _libraries_missing(backend):
        remedy = f'Its CUDA libraries are not installed. Run: pip install "kseg[{extra}]"'
    elif oldest and driver.version and _major(driver.version) < oldest:
        remedy = (
            f"Its CUDA {backend.cuda} needs driver {oldest} or newer; here is {driver.version}: update it"
        )
    elif backend.name == "tensorflow":
        remedy = (
            "TensorFlow says why: TF_CPP_MIN_LOG_LEVEL=0 python -c "
            "\"import tensorflow as tf; tf.config.list_physical_devices('GPU')\". "
            "Often LD_LIBRARY_PATH leads to another CUDA: unset it"
        )
    elif backend.name == "jax":
        remedy = 'JAX says why: JAX_PLATFORMS=cuda python -c "import jax; jax.devices()"'
    return Finding(WARNING, text, remedy)


def _libraries_missing(backend: Backend) -> bool:
    """Whether the wheels that bring CUDA to the backend are absent (a system-wide CUDA may stand in)."""
    if not backend.with_cuda:
        return True
    return backend.name == "tensorflow" and not version("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")


def _oldest_driver(backend: Backend) -> int | None:
    major = backend.cuda.partition(".")[0]
    return OLDEST_DRIVER.get(int(major)) if major.isdigit() else None


def _major(version_text: str) -> int:
    head = version_text.partition(".")[0]
    return int(head) if head.isdigit() else 0
