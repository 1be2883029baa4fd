"""Run an `.onnx` file with ONNX Runtime and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploy.ends import INPUT, OUTPUT, check_names, checked_images
from deploy.onnx.container import open_session
from kseg.errors import require


class OnnxRuntime:
    """An `.onnx` file behind the call that every runtime has.

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
        self.input_size: tuple[int, int] = (int(self.input_shape[1]), int(self.input_shape[2]))
        self.name = "ONNX Runtime"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`. A file exported with batch 1 runs
                a larger batch image by image.

        Returns:
            float32 logits `(B, H, W, classes)`.
        """
        images = checked_images(self.path, images, self.input_shape)
        if len(images) == 0:
            return np.empty((0, *self.output_shape[1:]), np.float32)
        if self.input_shape[0] != 1:
            return self._session.run([OUTPUT], {INPUT: images})[0]
        return np.concatenate([self._session.run([OUTPUT], {INPUT: image[None]})[0] for image in images])

    def close(self) -> None:
        """Free the session."""
        del self._session
