"""Errors that a user is meant to read: one line that says what, where, received, what to do."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from types import ModuleType

from kseg.text import printable

_LONGEST_MESSAGE = 2000
# What the light install lacks: top-level module -> the extra of kseg that brings it.
EXTRAS = {
    "keras": "train",
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "array_record": "train",
    "pycocotools": "train",
    "defusedxml": "train",
    "matplotlib": "train",
    "yaml": "train",
    "jax": "jax",
    "ai_edge_litert": "litert",
    "ai_edge_quantizer": "int8",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
    "tf2onnx": "onnx",
}


class KsegError(Exception):
    """Base of every error kseg raises on purpose. `exit_code` is what the command line returns.

    Args:
        message: one line; control characters of names and values in it are escaped, and what is longer than
            any sentence (a value of a megabyte, quoted) is cut.
    """

    exit_code = 2

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(printable(message, _LONGEST_MESSAGE), *more)


class UsageError(KsegError, ValueError):
    """An argument is wrong: unknown name, value out of range, arguments that exclude each other."""


class DataError(KsegError, ValueError):
    """Something on disk is wrong: missing folder, unreadable image, ids out of range."""


class ArtefactError(KsegError, ValueError):
    """A model file is not ours, is damaged, or was made for another machine."""


class GateError(KsegError):
    """A quality gate failed (for example: mIoU fell by more than the budget)."""

    exit_code = 1


class MissingExtraError(KsegError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional `module`, or say which extra of kseg brings it.

    Args:
        module: dotted name, for example `"ai_edge_litert.interpreter"`.
        extra: name of the kseg extra that installs it, for example `"litert"`.

    Raises:
        MissingExtraError: if the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(_missing(module, str(error), extra)) from error


def _missing(module: str, reason: str, extra: str) -> str:
    return f'`{module}` is not installed ({reason}). Run: pip install "kseg[{extra}]"'


@contextlib.contextmanager
def explained_imports() -> Iterator[None]:
    """Turn the ModuleNotFoundError of a library in `EXTRAS` into a MissingExtraError; pass others on.

    Around what imports at run time what the light install may lack.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise MissingExtraError(_missing(module, str(error), EXTRAS[module])) from error


def first_line(error: BaseException) -> str:
    """Return what a foreign error's message says went wrong, as one line without colour codes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # TensorFlow begins with excerpts of the caller's code; Keras names the layer, and the reason below it.
    traced = lines[0].startswith("in user code")
    at = next((index for index, line in enumerate(lines) if "Error: " in line), 0) if traced else 0
    wrapped = "Exception encountered when calling" in lines[at]
    return " ".join(lines[at : at + 1 + wrapped])


def did_you_mean(received: str, known: list[str], likeness: float = 0.5) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name; empty if none is near, or it was received.

    `likeness` (0 to 1, `difflib`'s ratio) is how near a name must be.
    """
    import difflib

    if received in known:
        # Refused for another reason than its spelling.
        return ""
    near = difflib.get_close_matches(received.lower(), [k.lower() for k in known], n=1, cutoff=likeness)
    if not near:
        return ""
    original = next(k for k in known if k.lower() == near[0])
    return f" Did you mean '{original}'?"
