"""What Keras' backend sees: its devices, and settings of their memory that must come before its first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kseg.errors import DataError
from kseg.machine.nvidia import Capability

# Keras' own default.
DEFAULT = "tensorflow"
# Both are read when the backend opens its device; what the user has set stays.
GROWTH = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# A user who gives JAX a share of the memory wants it taken at once.
_JAX_SHARES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_ALLOCATOR")


@dataclass(frozen=True)
class Device:
    """One device of a backend: `kind` is `"cpu"`, `"gpu"` or `"tpu"`."""

    name: str
    kind: str
    capability: Capability | None = None


@dataclass(frozen=True)
class Backend:
    """What a backend says of itself.

    Args:
        name: `"tensorflow"`, `"jax"`, ...: the one that Keras uses, or would use.
        version: of its distribution; empty: not installed.
        devices: what it computes on, the first accelerator first.
        with_cuda: whether this build can use NVIDIA GPUs at all.
        cuda: the CUDA version it was built for; empty: not known.
        problem: why it cannot be used; empty: it can.
    """

    name: str
    version: str = ""
    devices: tuple[Device, ...] = ()
    with_cuda: bool = False
    cuda: str = ""
    problem: str = ""

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs that it sees."""
        return tuple(device for device in self.devices if device.kind == "gpu")

    @property
    def accelerators(self) -> tuple[Device, ...]:
        """All devices but the CPU."""
        return tuple(device for device in self.devices if device.kind != "cpu")


def grow_memory() -> None:
    """Have the backend take GPU memory as it needs it, not all (TensorFlow) or 75 % (JAX) at its start.

    To be called before the backend's first use; after it this has no effect. Several processes can then
    share a GPU, as those of `kseg benchmark` do. Variables of the environment that the user has set stay.
    """
    for name, value in GROWTH.items():
        if name.startswith("XLA") and any(share in os.environ for share in _JAX_SHARES):
            continue
        os.environ.setdefault(name, value)


def version(*distributions: str) -> str:
    """Return the version of the first distribution that is installed, or an empty string."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def look() -> Backend:
    """Import Keras with its backend and ask it for its devices; a failure is told in `problem`."""
    wanted = os.environ.get("KERAS_BACKEND", "")
    try:
        import keras

        name = str(keras.backend.backend())
        ask = {"tensorflow": _tensorflow, "jax": _jax}.get(name, _other)
        return ask(name)
    except (ImportError, RuntimeError) as error:
        name = wanted or _configured()
        return Backend(name, _installed(name), problem=" ".join(str(error).split())[:300])


def _configured() -> str:
    """Return the backend that Keras would import: what its own file says, else its default."""
    from kseg import records

    file = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
    try:
        return str(records.read(file, dict[str, Any]).get("backend", DEFAULT))
    except DataError:
        # Keras, too, goes on with its default when there is no such file.
        return DEFAULT


def _installed(name: str) -> str:
    return version(name, f"{name}-cpu") if name else ""


def _tensorflow(name: str) -> Backend:
    import tensorflow as tf

    gpus = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details: dict[str, Any] = tf.config.experimental.get_device_details(gpu)
        gpus.append(Device(details.get("device_name", gpu.name), "gpu", details.get("compute_capability")))
    tpus = [Device(device.name, "tpu") for device in tf.config.list_physical_devices("TPU")]
    build = tf.sysconfig.get_build_info()
    return Backend(
        name,
        tf.__version__,
        (*gpus, *tpus, Device("CPU", "cpu")),
        with_cuda=bool(tf.test.is_built_with_cuda()),
        cuda=str(build.get("cuda_version", "")),
    )


def _jax(name: str) -> Backend:
    import jax

    devices = tuple(
        Device(device.device_kind, _kind(device.platform), _capability(device)) for device in jax.devices()
    )
    plugin = next((cuda for cuda in ("13", "12") if version(f"jax-cuda{cuda}-plugin")), "")
    return Backend(name, jax.__version__, devices, with_cuda=bool(plugin), cuda=plugin)


def _kind(platform: str) -> str:
    return "gpu" if platform in ("gpu", "cuda", "rocm") else platform


def _capability(device: Any) -> Capability | None:
    text = str(getattr(device, "compute_capability", "") or "")
    major, dot, minor = text.partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


def _other(name: str) -> Backend:
    import keras

    names = [str(device) for device in keras.distribution.list_devices()]
    devices = tuple(Device(item, _kind(item.partition(":")[0])) for item in names)
    return Backend(name, version(name), devices)
