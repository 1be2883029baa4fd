"""Keras to `.engine`: through ONNX, strongly typed, the graph kept beside it as `NAME.engine.onnx`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.conversion import Probe, Request
from deploy.formats import NoDeviceError
from deploy.onnx.container import embed as embed_onnx
from deploy.onnx.export import OnnxExporter, to_float16
from deploy.onnx.runtime import OnnxRuntime
from deploy.template import Exporter, check_parity, check_signature
from deploy.tensorrt import container
from deploy.tensorrt.cuda import bindings, device_name
from deploy.tensorrt.library import build, library
from kseg.files import write_bytes, write_json

if TYPE_CHECKING:
    import keras


def _gpu_here() -> str | None:
    """Return the name of this machine's GPU, to which full TensorRT ties an engine; None without one."""
    try:
        return device_name(bindings())
    except NoDeviceError:
        return None


class TensorRTExporter(Exporter):
    """Export to a TensorRT engine in float32 or float16 (float32 at input and output)."""

    format_name = "tensorrt"
    tools = ("tf2onnx", "onnx", "onnxruntime", "tensorrt", "tensorrt-rtx")
    _graph: bytes = b""

    @staticmethod
    def convert(model: keras.Model, path: Path, request: Request) -> None:
        """Write the ONNX graph; `lower` turns it into an engine."""
        OnnxExporter.convert(model, path, request)

    def lower(self, path: Path) -> None:
        """Bring the graph to its precision, build the engine from it and wrap it with its header."""
        if self.job.request.precision == "float16":
            to_float16(path)
        self._graph = path.read_bytes()
        trt = library()
        made_by = {
            "module": trt.__name__,
            "version": trt.__version__,
            "gpu": _gpu_here(),
            "targets": "all supported",
        }
        container.write(path, build(trt, self._graph), build=made_by)

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
            parity = check_parity(runtime(probe.image), probe.logits, self.job.request.precision)
            runtime.close()
        try:
            return super().load_back(path, probe)
        except NoDeviceError:
            return parity

    def _write_graph(self, path: Path) -> None:
        write_bytes(path, self._graph)
        embed_onnx(path, self.spec({**self.record(), "format": "onnx"}))

    def run(self) -> dict[str, Any]:
        """Make the engine; beside it `NAME.engine.onnx` (to rebuild from), `NAME.engine.json` (to read)."""
        outcome = super().run()
        self._write_graph(self.job.out.with_name(self.job.out.name + ".onnx"))
        header, _ = container.read(self.job.out)
        write_json(self.job.out.with_name(self.job.out.name + ".json"), header)
        return outcome
