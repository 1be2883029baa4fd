"""Run a `.tflite` file with LiteRT and numpy alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from deploy.buffers import OutputBuffers
from deploy.ends import INPUT, checked_ends, checked_images
from deploy.quiet import quiet
from deploy.tflite.container import read_model
from kseg.errors import ArtefactError, require
from kseg.sharing import Shared
from kseg.tasks import OneOutput
from kseg.text import printable


class TFLiteRuntime(OneOutput):
    """A `.tflite` file behind the call that every runtime has.

    Threads may share it. An interpreter runs one image at a time, so they wait for one another here, and
    their pre- and post-processing runs side by side. An interpreter per thread would hold the network's
    tensors and packed weights once per thread, and gains where `threads` leaves cores idle
    (`benchmarks/shared_runtime.py` measures both): then load the file once per thread.

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
                signature = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ArtefactError(
                f"LiteRT cannot load '{printable(self.path)}': {printable(error, 300)}"
            ) from error
        inputs, outputs = signature.get_input_details(), signature.get_output_details()
        self.ends = checked_ends(self.path, self.spec, _shapes(inputs), _shapes(outputs))
        self.input_size = self.ends.size
        self._input = inputs[INPUT]["index"]
        # Functions that give a view of an output where it lies; a view must be gone before the next run.
        self._views = {name: self._interpreter.tensor(outputs[name]["index"]) for name in self.ends.outputs}
        self.name = "LiteRT"
        self._buffers = OutputBuffers(self.ends.outputs)
        self._shared = Shared(self.path.name, exclusive=True)

    def operators(self) -> set[str]:
        """Return the names of the operators in the file, for example `CONV_2D`."""
        return {operator["op_name"] for operator in self._interpreter._get_ops_details()}

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run normalised images.

        Args:
            images: float32 `(B, H, W, 3)` with `(H, W) == input_size`. The file has batch 1; a larger
                batch is run image by image.

        Returns:
            Name of the output -> float32, batch first (`logits` `(B, H, W, classes)`), the caller's own.

        Raises:
            UsageError: if the images do not fit the file, or the runtime was closed.
        """
        images = checked_images(self.path, images, self.ends.input_shape)
        with self._shared.use():
            results = self._buffers.take(len(images))
            for index in range(len(images)):
                self._interpreter.set_tensor(self._input, images[index : index + 1])
                self._interpreter.invoke()
                for name, view in self._views.items():
                    np.copyto(results[name][index : index + 1], view())
        return results

    def close(self) -> None:
        """Free the interpreter, after the calls that other threads have begun."""
        self._shared.close(self._free)

    def _free(self) -> None:
        del self._views, self._interpreter, self._buffers


def _shapes(details: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(side) for side in detail["shape"]) for name, detail in details.items()}
