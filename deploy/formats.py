"""The one table of export formats. Help texts, validation, benchmark and docs are derived from it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kseg.errors import ArtefactError, UsageError, did_you_mean

PRECISIONS = ("float32", "float16", "int8")
KERAS_SUFFIX = ".keras"


class NoDeviceError(ArtefactError):
    """The artefact is whole, but this machine has no device that can run it."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One row of the table.

    Args:
        name: what `kseg export --to` takes.
        suffix: file suffix, with the dot. Rows may share one, with its runtime and container: the first of
            them is what the suffix alone asks for.
        precisions: the precisions that `exporter` makes.
        exporter: `"module:Class"`, a subclass of `deploy.template.Exporter`.
        runtime: `"module:Class"`, a runtime as `kseg.inference` defines it. Its module imports
            neither TensorFlow nor Keras.
        container: module with `embed(path, spec)` and `read_spec(path) -> Spec`.
        extra: the extra of kseg that installs what it needs.
        dynamic: axes that may be left open at export.
        note: one line for help texts and docs.
        refused: precision -> why it is not offered.
        runs_with: modules that running needs; `"a|b"`: one of them.
        exported_with: modules that exporting needs.
        device: `"module:function"` that raises NoDeviceError where there is no device to run it on.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    exporter: str
    runtime: str
    container: str
    extra: str
    dynamic: tuple[str, ...] = ()
    note: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    runs_with: tuple[str, ...] = ()
    exported_with: tuple[str, ...] = ()
    device: str | None = None

    def load(self, attribute: str) -> Any:
        """Import and return what the row's `exporter`, `runtime` or `container` names."""
        module, _, name = getattr(self, attribute).partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, name) if name else loaded

    def check_precision(self, precision: str) -> None:
        """Raise UsageError, with the reason, for a precision that this format is not exported in."""
        if precision in self.precisions:
            return
        if precision in self.refused:
            raise UsageError(f"{self.name} does not offer precision '{precision}': {self.refused[precision]}")
        hint = did_you_mean(precision, [*self.precisions, *self.refused])
        raise UsageError(
            f"Unknown precision for {self.name}.{hint} Received: precision={precision!r}. "
            f"Known: {', '.join(self.precisions)}"
        )


_DYNAMIC_INT8 = (
    "dynamic int8 loses accuracy on depthwise convolutions and runs slower than float on them; "
    "use 'int8' (static, calibrated)"
)
_INT16 = "16x8 has no fast CPU kernels (12-22 times slower than float32); use 'int8' or 'float16'"
_ENGINE_INT8 = "not built by this version; use 'float16'"

_ROWS = (
    Format(
        name="tflite",
        suffix=".tflite",
        precisions=("float32", "float16", "int8"),
        exporter="deploy.tflite.export:TFLiteExporter",
        runtime="deploy.tflite.runtime:TFLiteRuntime",
        container="deploy.tflite.container",
        extra="litert",
        runs_with=("ai_edge_litert.interpreter",),
        exported_with=("tensorflow", "ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer"),
        note="LiteRT, for phones and boards; batch 1, fixed size, builtin ops only",
        refused={"dynamic_int8": _DYNAMIC_INT8, "int8_dynamic": _DYNAMIC_INT8, "int16x8": _INT16},
    ),
    Format(
        name="onnx",
        suffix=".onnx",
        precisions=("float32", "float16"),
        exporter="deploy.onnx.export:OnnxExporter",
        runtime="deploy.onnx.runtime:OnnxRuntime",
        container="deploy.onnx.container",
        extra="onnx",
        runs_with=("onnxruntime",),
        exported_with=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
        dynamic=("batch",),
        note="ONNX opset 18, for ONNX Runtime and whatever reads ONNX",
        refused={
            "int8": "ONNX Runtime runs int8 Q/DQ graphs of these networks slower than float32 on CPUs; "
            "use 'float16', or --to tflite --precision int8",
            "dynamic_int8": _DYNAMIC_INT8,
            "int8_dynamic": _DYNAMIC_INT8,
        },
    ),
    Format(
        name="tensorrt",
        suffix=".engine",
        precisions=("float32", "float16"),
        exporter="deploy.tensorrt.export:TensorRTExporter",
        runtime="deploy.tensorrt.runtime:EngineRuntime",
        container="deploy.tensorrt.container",
        extra="tensorrt",
        runs_with=("tensorrt|tensorrt_rtx", "cuda.bindings.runtime"),
        exported_with=("tensorflow", "tf2onnx", "onnx", "tensorrt|tensorrt_rtx"),
        device="deploy.tensorrt.cuda:check_device",
        dynamic=("batch",),
        note="TensorRT engine, for the GPU it is built on; by TensorRT-RTX where only that is installed",
        refused={"int8": _ENGINE_INT8},
    ),
    Format(
        name="tensorrt-rtx",
        suffix=".engine",
        precisions=("float32", "float16"),
        exporter="deploy.tensorrt.export:TensorRTRTXExporter",
        runtime="deploy.tensorrt.runtime:EngineRuntime",
        container="deploy.tensorrt.container",
        extra="tensorrt-rtx",
        runs_with=("tensorrt_rtx", "cuda.bindings.runtime"),
        exported_with=("tensorflow", "tf2onnx", "onnx", "tensorrt_rtx"),
        device="deploy.tensorrt.cuda:check_device",
        dynamic=("batch",),
        note="TensorRT-RTX engine, for NVIDIA RTX GPUs (not Hopper); built without a GPU",
        refused={"int8": _ENGINE_INT8},
    ),
)

FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}


def by_name(name: str) -> Format:
    """Return the row called `name` (any case).

    Raises:
        UsageError: with the nearest known name.
    """
    row = FORMATS.get(name.lower())
    if row is None:
        hint = did_you_mean(name, list(FORMATS))
        raise UsageError(f"Unknown format.{hint} Received: {name!r}. Known: {', '.join(FORMATS)}")
    return row


def find(path: str | os.PathLike[str]) -> Format | None:
    """Return the row whose suffix `path` has, or None."""
    suffix = Path(path).suffix.lower()
    return next((row for row in _ROWS if row.suffix == suffix), None)


def by_path(path: str | os.PathLike[str]) -> Format:
    """Return the row whose suffix `path` has.

    Raises:
        UsageError: if no format has that suffix.
    """
    row = find(path)
    if row is None:
        known = ", ".join(f"{entry.suffix} ({entry.name})" for entry in _ROWS)
        raise UsageError(f"No format has the suffix of '{path}'. Known: {known}")
    return row


def precisions_help() -> str:
    """Return one line that says which precisions each format has."""
    return "; ".join(f"{row.name}: {', '.join(row.precisions)}" for row in _ROWS)
