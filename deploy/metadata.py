"""The spec inside an artefact: written once at export, read back by every loader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from deploy import formats
from kseg.errors import ArtefactError, DataError
from kseg.spec import Spec


def _existing(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    if found.is_dir():
        raise DataError(f"'{found}' is a folder; a model file is needed.")
    if not found.is_file():
        raise DataError(f"There is no file '{found}'.")
    if not found.stat().st_size:
        raise ArtefactError(f"'{found}' is empty (0 bytes): the copy or download failed. Get it again")
    return found


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """Return the spec stored inside a `.keras` file or an artefact, without running it.

    Args:
        path: a file of any format in `deploy.FORMATS`, or `.keras`.

    Raises:
        DataError: if there is no such file.
        ArtefactError: if the file is empty, carries no kseg spec (it says what is lacking) or is damaged.
        UsageError: if the suffix belongs to no format.
    """
    found = _existing(path)
    if found.suffix.lower() == formats.KERAS_SUFFIX:
        from kseg.saving import read_spec as read_keras_spec

        return read_keras_spec(found)
    spec: Spec = formats.by_path(found).load("container").read_spec(found)
    return spec


def embed(path: str | os.PathLike[str], spec: Spec) -> None:
    """Write `spec` into the artefact at `path`, in the place of one that is there already.

    The write is atomic: on any failure the file is as it was.
    """
    found = _existing(path)
    formats.by_path(found).load("container").embed(found, spec)


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Any:
    """Load any artefact (or a `.keras` file) as a runtime: the same call for every format.

    Args:
        path: the file.
        threads: CPU threads to use; None: the runtime's choice.

    Returns:
        An object with `.spec`, `.input_size`, `.name`, `.close()` and
        `__call__(float32 (B, H, W, 3)) -> float32 logits (B, H, W, classes)`.

    Example:
        >>> runtime = deploy.load("model_int8.tflite")
        >>> logits = runtime(images)

    Raises:
        ArtefactError: if the file is damaged or is not kseg's.
        NoDeviceError: if this machine has no device for it.
        MissingExtraError: if the format's runtime is not installed.
    """
    found = _existing(path)
    if found.suffix.lower() == formats.KERAS_SUFFIX:
        from kseg.inference import load_runtime

        return load_runtime(found)
    runtime = formats.by_path(found).load("runtime")
    return runtime(found) if threads is None else runtime(found, threads=threads)
