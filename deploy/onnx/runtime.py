"""Run an `.onnx` file with ONNX Runtime and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploy.buffers import OutputBuffers
from deploy.ends import INPUT, checked_ends, checked_images
from deploy.onnx.container import open_session
from kseg.errors import require
from kseg.sharing import Shared
from kseg.tasks import OneOutput


class OnnxRuntime(OneOutput):
    """An `.onnx` file behind the call that every runtime has.

    Threads may share it, and run side by side: ONNX Runtime allows it.

    Args:
        path: the file, as `deploy.export` wrote it.
        threads: CPU threads; default: ONNX Runtime's choice (one per physical core).

    Raises:
        ArtefactError: if the file is not kseg's, or is damaged.
        MissingExtraError: if onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        options = require("onnxruntime", "onnxruntime").SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 4
        self.path = Path(path)
        self._session, self.spec = open_session(self.path, options)
        self.ends = checked_ends(
            self.path,
            self.spec,
            {end.name: end.shape for end in self._session.get_inputs()},
            {end.name: end.shape for end in self._session.get_outputs()},
        )
        self.input_size = self.ends.size
        self.name = "ONNX Runtime"
        self._buffers = OutputBuffers(self.ends.outputs)
        self._shared = Shared(self.path.name)

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`. A file exported with batch 1 runs
                a larger batch image by image.

        Returns:
            Name of the output -> float32, batch first (`logits` `(B, H, W, classes)`), the caller's own.

        Raises:
            UsageError: if the images do not fit the file, or the runtime was closed.
        """
        images = checked_images(self.path, images, self.ends.input_shape)
        step = 1 if self.ends.input_shape[0] == 1 else max(1, len(images))
        with self._shared.use():
            results = self._buffers.take(len(images))
            for start in range(0, len(images), step):
                piece = slice(start, start + step)
                self._run(images[piece], {name: result[piece] for name, result in results.items()})
        return results

    def _run(self, images: np.ndarray, results: dict[str, np.ndarray]) -> None:
        """Have the session read and write contiguous arrays in place."""
        ends = self._session.io_binding()
        ends.bind_cpu_input(INPUT, images)
        for name, result in results.items():
            ends.bind_output(name, "cpu", 0, np.float32, result.shape, result.ctypes.data)
        self._session.run_with_iobinding(ends)

    def close(self) -> None:
        """Free the session, after the calls that other threads have begun."""
        self._shared.close(self._free)

    def _free(self) -> None:
        del self._session, self._buffers
