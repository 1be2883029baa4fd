"""Run an `.onnx` file with ONNX Runtime and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploy.buffers import Buffers
from deploy.ends import INPUT, OUTPUT, check_names, checked_images, checked_size
from deploy.onnx.container import open_session
from kseg.errors import require
from kseg.sharing import Shared


class OnnxRuntime:
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
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_names(self.path, [e.name for e in inputs], [e.name for e in outputs])
        self.input_shape = tuple(inputs[0].shape)
        self.output_shape = tuple(outputs[0].shape)
        self.input_size = checked_size(self.path, self.input_shape, self.output_shape, self.spec.num_classes)
        self.name = "ONNX Runtime"
        self._buffers = Buffers()
        self._shared = Shared(self.path.name)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`. A file exported with batch 1 runs
                a larger batch image by image.

        Returns:
            float32 logits `(B, H, W, classes)`, the caller's own.

        Raises:
            UsageError: if the images do not fit the file, or the runtime was closed.
        """
        images = checked_images(self.path, images, self.input_shape)
        step = 1 if self.input_shape[0] == 1 else max(1, len(images))
        with self._shared.use():
            result = self._buffers.take((len(images), *self.output_shape[1:]))
            for start in range(0, len(images), step):
                self._run(images[start : start + step], result[start : start + step])
        return result

    def _run(self, images: np.ndarray, logits: np.ndarray) -> None:
        """Have the session read and write contiguous arrays in place."""
        ends = self._session.io_binding()
        ends.bind_cpu_input(INPUT, images)
        ends.bind_output(OUTPUT, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(ends)

    def close(self) -> None:
        """Free the session, after the calls that other threads have begun."""
        self._shared.close(self._free)

    def _free(self) -> None:
        del self._session, self._buffers
