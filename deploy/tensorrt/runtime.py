"""Run an `.engine` with TensorRT, CUDA's bindings and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from deploy.buffers import OutputBuffers
from deploy.ends import INPUT, checked_ends, checked_images, output_shapes
from deploy.tensorrt import container
from deploy.tensorrt.cuda import Buffer, bindings, call, device_name
from deploy.tensorrt.library import EXTRAS, describe, deserialize, library
from kseg.errors import ArtefactError
from kseg.sharing import Shared
from kseg.spec import Spec
from kseg.tasks import OneOutput
from kseg.text import printable


class EngineRuntime(OneOutput):
    """An `.engine` file behind the call that every runtime has.

    Threads may share it. It has one execution context, one stream and one pair of device buffers, so they
    wait for one another: the GPU would run their work in turns anyway, and each context more takes its
    activations' memory on the device once more.

    Args:
        path: the file, as `deploy.export` wrote it.
        threads: accepted for the sake of the common call; an engine runs on the GPU.

    Raises:
        ArtefactError: if the file is not kseg's, is damaged, or was built by another TensorRT or for
            another GPU (the message says what to rebuild with).
        NoDeviceError: if this machine has no CUDA device. The file itself was checked before.
        MissingExtraError: if TensorRT or cuda-bindings is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        header, plan = container.read(self.path)
        if header.get("spec") is None:
            raise ArtefactError(f"'{self.path}' carries no spec: its export did not finish. Export it again.")
        self.spec = Spec.from_dict(header["spec"], where=f"'{printable(self.path)}', header")
        build = header["build"]
        trt = library(build["module"])
        _check_version(self.path, build, trt)
        self._cudart = bindings()
        gpu = device_name(self._cudart)
        _check_gpu(self.path, build, gpu)
        self.name = f"{build['module']} {trt.__version__} on {gpu}"
        self._runtime, self._engine = deserialize(trt, plan, self.path)
        self._context = self._engine.create_execution_context()
        # An engine is asked for the ends that its task has: only one that has them was ever written.
        shapes = {
            name: tuple(self._engine.get_tensor_shape(name))
            for name in (INPUT, *output_shapes(self.spec, (0, 0)))
        }
        self.ends = checked_ends(self.path, self.spec, {INPUT: shapes.pop(INPUT)}, shapes)
        self.input_size = self.ends.size
        self._largest = self._largest_batch()
        self._stream: Any = call(self._cudart.cudaStreamCreate())
        self._device = {name: Buffer(self._cudart) for name in (INPUT, *self.ends.outputs)}
        self._buffers = OutputBuffers(self.ends.outputs)
        self._shared = Shared(self.path.name, exclusive=True)

    def _largest_batch(self) -> int:
        batch = self._engine.get_tensor_shape(INPUT)[0]
        if batch != -1:
            return int(batch)
        return int(self._engine.get_tensor_profile_shape(INPUT, 0)[2][0])

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`; a batch above the engine's largest
                is run in pieces.

        Returns:
            Name of the output -> float32, batch first (`logits` `(B, H, W, classes)`), the caller's own.

        Raises:
            UsageError: if the images do not fit the file, or the runtime was closed.
            ArtefactError: if CUDA or TensorRT fails.
        """
        images = checked_images(self.path, images, self.ends.input_shape)
        with self._shared.use():
            results = self._buffers.take(len(images))
            for start in range(0, len(images), self._largest):
                piece = slice(start, start + self._largest)
                self._run(images[piece], {name: result[piece] for name, result in results.items()})
        return results

    def _run(self, images: np.ndarray, results: dict[str, np.ndarray]) -> None:
        self._context.set_input_shape(INPUT, images.shape)
        for name, array in ((INPUT, images), *results.items()):
            self._context.set_tensor_address(name, self._device[name].reserve(array.nbytes))
        self._device[INPUT].upload(images, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise ArtefactError(f"TensorRT failed while running '{self.path}'.")
        for name, result in results.items():
            self._device[name].download(result, self._stream)
        call(self._cudart.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """Free device memory, the engine and the stream, after the calls that other threads have begun."""
        self._shared.close(self._free)

    def _free(self) -> None:
        for buffer in self._device.values():
            buffer.free()
        call(self._cudart.cudaStreamDestroy(self._stream))
        del self._context, self._engine, self._runtime, self._buffers


def _check_version(path: Path, build: dict[str, Any], trt: Any) -> None:
    """An engine is tied to the TensorRT that built it: say so before C++ does."""
    if trt.__version__ != build["version"]:
        raise ArtefactError(
            f"'{path}' was built by {build['module']} {build['version']}; installed is {trt.__version__}. "
            f"Rebuild it (kseg export --to {EXTRAS[build['module']]}) or: {describe(build)['needs']}"
        )


def _check_gpu(path: Path, build: dict[str, Any], gpu: str) -> None:
    """Full TensorRT ties an engine to the GPU it was built on; RTX builds for generations of GPUs."""
    if build["module"] == "tensorrt" and build["gpu"] != gpu:
        raise ArtefactError(
            f"'{path}' was built for {build['gpu'] or 'no GPU'}; this machine has {gpu}. "
            "Rebuild it here with `kseg export ... --to tensorrt`"
        )
    if build["module"] == "tensorrt_rtx" and "(SM90)" in gpu:
        raise ArtefactError(
            f"'{path}' was built by TensorRT-RTX, which runs on no Hopper GPU; this machine has {gpu}. "
            'Rebuild it here: pip install "kseg[tensorrt]", then kseg export ... --to tensorrt'
        )
