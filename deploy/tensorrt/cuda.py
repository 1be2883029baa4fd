"""The few CUDA runtime calls that running an engine needs, through NVIDIA's own bindings."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploy.formats import NoDeviceError
from kseg.errors import ArtefactError, require

NO_DEVICE = "no CUDA device"


def bindings() -> Any:
    """Import `cuda.bindings.runtime`."""
    return require("cuda.bindings.runtime", "tensorrt-rtx")


def call(result: tuple[Any, ...]) -> Any:
    """Return what a CUDA call gave, or raise ArtefactError with its error's name."""
    status, *values = result
    if int(status) != 0:
        raise ArtefactError(f"CUDA failed: {status.name} ({int(status)})")
    return values[0] if len(values) == 1 else tuple(values)


def device_name(cudart: Any) -> str:
    """Return `"NAME (SM90)"` of device 0.

    Raises:
        NoDeviceError: if there is no CUDA device or no driver.
    """
    status, count = cudart.cudaGetDeviceCount()
    if int(status) != 0 or not count:
        raise NoDeviceError(NO_DEVICE)
    properties = call(cudart.cudaGetDeviceProperties(0))
    name = properties.name
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f"{text.rstrip(chr(0))} (SM{properties.major}{properties.minor})"


def check_device() -> None:
    """Raise NoDeviceError if this machine has no CUDA device that an engine could run on."""
    device_name(bindings())


class Buffer:
    """Device memory for one tensor, grown when a larger one comes."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart
        self.address = 0
        self._bytes = 0

    def reserve(self, size: int) -> int:
        """Return the address of at least `size` bytes."""
        if size > self._bytes:
            self.free()
            self.address = int(call(self._cudart.cudaMalloc(size)))
            self._bytes = size
        return self.address

    def upload(self, array: np.ndarray, stream: Any) -> None:
        """Copy a contiguous array to the device, in the order of `stream`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(self._cudart.cudaMemcpyAsync(self.address, array.ctypes.data, array.nbytes, kind, stream))

    def download(self, array: np.ndarray, stream: Any) -> None:
        """Copy from the device into a contiguous array, in the order of `stream`."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(self._cudart.cudaMemcpyAsync(array.ctypes.data, self.address, array.nbytes, kind, stream))

    def free(self) -> None:
        """Give the memory back."""
        if self._bytes:
            call(self._cudart.cudaFree(self.address))
            self._bytes = 0
