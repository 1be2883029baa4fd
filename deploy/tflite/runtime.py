"""Run a `.tflite` file with LiteRT and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploy.ends import INPUT, OUTPUT, check_names, checked_images, checked_size
from deploy.quiet import quiet
from deploy.tflite.container import read_model
from kseg.errors import ArtefactError, require
from kseg.text import printable


class TFLiteRuntime:
    """A `.tflite` file behind the call that every runtime has.

    Args:
        path: the file, as `deploy.export` wrote it.
        threads: CPU threads; default: all cores.

    Raises:
        ArtefactError: if the file is not kseg's, or is damaged.
        MissingExtraError: if ai-edge-litert is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        interpreter = require("ai_edge_litert.interpreter", "litert")
        self.path = Path(path)
        model, self.spec = read_model(self.path)
        try:
            with quiet():
                self._interpreter = interpreter.Interpreter(
                    model_content=model, num_threads=threads or os.cpu_count() or 1
                )
                self._interpreter.allocate_tensors()
                self._run = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ArtefactError(
                f"LiteRT cannot load '{printable(self.path)}': {printable(error, 300)}"
            ) from error
        inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
        check_names(self.path, inputs, outputs)
        self.input_shape = tuple(int(side) for side in inputs[INPUT]["shape"])
        self.output_shape = tuple(int(side) for side in outputs[OUTPUT]["shape"])
        self.input_size = checked_size(self.path, self.input_shape, self.output_shape, self.spec.num_classes)
        self.name = "LiteRT"

    def operators(self) -> set[str]:
        """Return the names of the operators in the file, for example `CONV_2D`."""
        return {operator["op_name"] for operator in self._interpreter._get_ops_details()}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`. The file has batch 1; a larger
                batch is run image by image.

        Returns:
            float32 logits `(B, H, W, classes)`.
        """
        images = checked_images(self.path, images, self.input_shape)
        if len(images) == 0:
            return np.empty((0, *self.output_shape[1:]), np.float32)
        return np.concatenate([self._run(**{INPUT: image[None]})[OUTPUT] for image in images])

    def close(self) -> None:
        """Free the interpreter."""
        del self._run, self._interpreter
