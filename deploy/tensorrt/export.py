"""Keras to `.engine`: through ONNX, strongly typed, the graph kept beside it as `NAME.engine.onnx`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deploy.conversion import Probe, Request
from deploy.formats import NoDeviceError
from deploy.onnx.container import embed as embed_onnx
from deploy.onnx.export import OnnxExporter, to_float16
from deploy.onnx.runtime import OnnxRuntime
from deploy.template import Exporter, check_parity, check_signature
from deploy.tensorrt import container
from deploy.tensorrt.cuda import bindings, device_name
from deploy.tensorrt.library import TITLES, build, describe, library
from kseg.files import write_bytes, write_json

if TYPE_CHECKING:
    import keras


_FORMATS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def _gpu_here() -> str | None:
    """Return the name of this machine's GPU, to which full TensorRT ties an engine; None without one."""
    try:
        return device_name(bindings())
    except NoDeviceError:
        return None


class TensorRTExporter(Exporter):
    """Export to a TensorRT engine in float32 or float16 (float32 at input and output).

    Takes the full library where it is installed, else TensorRT-RTX; the file and the outcome say which.
    """

    format_name = "tensorrt"
    tools = ("tf2onnx", "onnx", "onnxruntime", "tensorrt", "tensorrt-rtx")
    #: the one module that may build; None: the first that is installed
    module: ClassVar[str | None] = None
    _graph: bytes = b""

    def prepare(self) -> None:
        """Find the library, and for the full one the GPU that it builds for."""
        self._trt = library(self.module)
        self._gpu = _gpu_here()
        if self._trt.__name__ == "tensorrt" and self._gpu is None:
            raise NoDeviceError(
                f"TensorRT {self._trt.__version__} builds for the GPU of its machine, and this one has no "
                "CUDA device. Export on the machine that will run it, or take --to tensorrt-rtx"
            )

    @staticmethod
    def convert(model: keras.Model, path: Path, request: Request) -> None:
        """Write the ONNX graph; `lower` turns it into an engine."""
        OnnxExporter.convert(model, path, request)

    def lower(self, path: Path) -> None:
        """Bring the graph to its precision, build the engine from it and wrap it with its header."""
        if self.job.request.precision == "float16":
            to_float16(path)
        self._graph = path.read_bytes()
        container.write(
            path, build(self._trt, self._graph), build={**self._build(), **describe(self._build())}
        )

    def _build(self) -> dict[str, Any]:
        return {
            "module": self._trt.__name__,
            "version": self._trt.__version__,
            "gpu": self._gpu,
            "targets": "all supported",
        }

    def record(self) -> dict[str, Any]:
        """Add who made the engine; the format is the maker's, also where it stood in for the other."""
        engine = describe(self._build())
        made = {**super().record(), "format": _FORMATS[self._trt.__name__], "engine": engine}
        if made["format"] != self.format_name:
            engine["instead"] = (
                f"{TITLES['tensorrt']} is not installed here, so {engine['library']} made this engine"
            )
        return made

    def load_back(self, path: Path, probe: Probe) -> dict[str, float]:
        """Check the graph that the engine was built from with ONNX Runtime; run the engine if a GPU is here.

        TensorRT accepts graphs that ONNX Runtime rejects as ill-typed, so the graph runs there first.
        """
        container.read(path)
        with tempfile.TemporaryDirectory(prefix="kseg-engine-") as folder:
            graph = Path(folder) / "model.onnx"
            self._write_graph(graph)
            runtime = OnnxRuntime(graph)
            check_signature(runtime, self.job.request, self.job.spec)
            parity = check_parity(runtime.outputs(probe.image), probe.outputs, self.parity_limit())
            runtime.close()
        try:
            return super().load_back(path, probe)
        except NoDeviceError:
            return parity

    def _write_graph(self, path: Path) -> None:
        write_bytes(path, self._graph)
        embed_onnx(path, self.spec({**self.record(), "format": "onnx", "engine": None}))

    def run(self) -> dict[str, Any]:
        """Make the engine; beside it `NAME.engine.onnx` (to rebuild from), `NAME.engine.json` (to read)."""
        outcome = super().run()
        self._write_graph(self.job.out.with_name(self.job.out.name + ".onnx"))
        header, _ = container.read(self.job.out)
        write_json(self.job.out.with_name(self.job.out.name + ".json"), header)
        return outcome


class TensorRTRTXExporter(TensorRTExporter):
    """Export to an engine by TensorRT-RTX, whichever other TensorRT is installed."""

    format_name = "tensorrt-rtx"
    module = "tensorrt_rtx"
