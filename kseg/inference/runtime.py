"""What a runtime is, and how the right one for a file is found."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kseg.errors import ArtefactError, UsageError, explained_imports
from kseg.spec import Spec

GROUP = "kseg.runtimes"


@runtime_checkable
class Runtime(Protocol):
    """Runs one network: float32 NHWC images, already normalised, to float32 logits of the same size.

    Threads may share it: calls run side by side or wait for one another, as the library behind it allows.
    """

    @property
    def spec(self) -> Spec:
        """The Spec stored in the artefact."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """`(height, width)` that the network takes, or None when it takes any."""

    @property
    def name(self) -> str:
        """Short name for tables, for example `"keras"` or `"tflite"`."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's one output: logits `(B, H, W, classes)` for images `(B, H, W, 3)`.

        It stays as it is while the caller holds it, and may be read-only: copy before writing. A runtime of
        several outputs has `outputs`, images -> array by name (`kseg.tasks.OneOutput`).
        """

    def close(self) -> None:
        """Free what the runtime holds, after the calls that have begun; later calls raise UsageError."""


def runtimes() -> dict[str, metadata.EntryPoint]:
    """Return the entry points of every installed runtime by file suffix."""
    return {point.name: point for point in sorted(metadata.entry_points(group=GROUP))}


def load_runtime(path: str | os.PathLike[str], **options: Any) -> Runtime:
    """Open a model file with the runtime that is registered for its suffix.

    Args:
        path: a `.keras`, `.tflite`, `.onnx` or engine file that kseg wrote.
        **options: passed to the runtime's class, for example a number of threads.

    Raises:
        UsageError: if no runtime is registered for the suffix.
        ArtefactError: if the file is missing or not one that kseg wrote.
        MissingExtraError: if the library that runs this format is not installed.
    """
    file = Path(path)
    known = runtimes()
    suffix = file.suffix.lower()
    if suffix not in known:
        raise UsageError(
            f"No runtime is known for '{file}' (suffix '{file.suffix}'). "
            f"Known suffixes: {', '.join(known) or 'none: install the kseg package with pip'}"
        )
    if not file.is_file():
        raise ArtefactError(
            f"'{file}' {'is a folder' if file.is_dir() else 'does not exist'}; expected a file"
        )
    if not file.stat().st_size:
        raise ArtefactError(f"'{file}' is empty (0 bytes): the copy or download failed. Get it again")
    with explained_imports():
        runtime: Runtime = known[suffix].load()(file, **options)
    return runtime


def opened_runtime(source: Any) -> Runtime:
    """Return what a predictor is given, a Keras model, a runtime or a path, as a runtime.

    Raises:
        UsageError: if it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return load_runtime(source)
    if isinstance(source, Runtime):
        return source
    if hasattr(source, "inputs") and hasattr(source, "outputs"):
        from kseg.inference.keras_runtime import KerasRuntime

        return KerasRuntime(source)
    raise UsageError(
        "Predictor needs a Keras model, a runtime or the path of a model file. "
        f"Received: {type(source).__name__}"
    )
