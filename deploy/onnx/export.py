"""Keras to `.onnx`: opset 18, NHWC in and out, batch static or open."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.conversion import Request
from deploy.ends import INPUT
from deploy.template import Exporter
from kseg.errors import ArtefactError, require

if TYPE_CHECKING:
    import keras

OPSET = 18
BATCH = "batch"
_LARGE = 10_000_000  # weights


class OnnxExporter(Exporter):
    """Export to ONNX in float32 or float16 (float32 at input and output)."""

    format_name = "onnx"
    tools = ("tf2onnx", "onnx", "onnxruntime")

    @staticmethod
    def convert(model: keras.Model, path: Path, request: Request) -> None:
        """Convert with tf2onnx and give inputs and outputs their names and batch axis."""
        tf2onnx: Any = require("tf2onnx", "onnx")
        onnx: Any = require("onnx", "onnx")
        import tensorflow as tf

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        batch = None if request.dynamic == "batch" else 1
        signature = [tf.TensorSpec((batch, *request.size, model.inputs[0].shape[-1]), tf.float32, name=INPUT)]
        try:
            graph, _ = tf2onnx.convert.from_keras(
                model, input_signature=signature, opset=OPSET, optimizers=_optimizers(model)
            )
        except Exception as error:
            # tf2onnx raises whatever its handlers raise.
            raise ArtefactError(f"ONNX conversion failed: {str(error).strip().splitlines()[-1:]}") from error
        _check_inputs(graph)
        drop_regions(graph)
        name_ends(graph, batch, request.outputs)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, str(path))

    def lower(self, path: Path) -> None:
        """Turn the graph to float16 where that was asked for."""
        if self.job.request.precision == "float16":
            to_float16(path)

    def check_graph(self, path: Path) -> None:
        """Run ONNX's checker on the finished file."""
        onnx: Any = require("onnx", "onnx")
        graph = onnx.load(str(path))
        _check_inputs(graph)
        onnx.checker.check_model(graph, full_check=True)


def _optimizers(model: keras.Model) -> dict[str, Any] | None:
    """Return tf2onnx's optimizers for a large network, each begun with a clean memory; None: the default.

    Before each of its two dozen passes tf2onnx copies the whole graph, and the copies refer to themselves:
    what Python leaves lying is forty times the network.
    """
    if model.count_params() < _LARGE:
        return None
    optimizer: Any = require("tf2onnx.optimizer", "onnx")

    def begun_clean(kind: Any) -> Any:
        def make() -> Any:
            gc.collect()
            return kind()

        return make

    return {name: begun_clean(kind) for name, kind in optimizer._get_optimizers().items()}


def _check_inputs(graph: Any) -> None:
    """A constant that a layer captured as a tensor turns into a graph input without a word."""
    held = {initializer.name for initializer in graph.graph.initializer}
    inputs = [entry.name for entry in graph.graph.input if entry.name not in held]
    if len(inputs) != 1:
        raise ArtefactError(
            "The ONNX graph must have the model's one input. "
            f"Received: {inputs}. A layer holds a constant as a tensor; hold it as a numpy array"
        )


def drop_regions(graph: Any) -> None:
    """Remove the empty `roi` that tf2onnx gives each Resize: it is read only where Resize also crops.

    In float16, ONNX Runtime puts a cast behind it, and may then reorder its zero entries by a Gather that
    fails when it runs.
    """
    empty = {entry.name for entry in graph.graph.initializer if 0 in entry.dims}
    for node in graph.graph.node:
        if node.op_type == "Resize" and node.input[1] in empty:
            node.input[1] = ""
    read = {name for node in graph.graph.node for name in node.input}
    for entry in [entry for entry in graph.graph.initializer if entry.name in empty - read]:
        graph.graph.initializer.remove(entry)


def name_ends(graph: Any, batch: int | None, outputs: Sequence[str]) -> None:
    """Rename the graph's input to `image` and its outputs to `outputs`; name the batch axis or fix it.

    tf2onnx gives several outputs in the order of their names in the Keras model.
    """
    ends = dict(zip((INPUT, *sorted(outputs)), (graph.graph.input[0], *graph.graph.output), strict=True))
    names = {end.name: name for name, end in ends.items()}
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for name, entry in ends.items():
        entry.name = name
        axis = entry.type.tensor_type.shape.dim[0]
        if batch is None:
            axis.dim_param = BATCH
        else:
            axis.dim_value = batch
    # Shapes of inner tensors carry tf2onnx's own names for the batch axis: let readers infer them anew.
    del graph.graph.value_info[:]


def to_float16(path: Path) -> None:
    """Turn the float32 graph at `path` to float16, keeping float32 input and output."""
    onnx: Any = require("onnx", "onnx")
    float16: Any = require("onnxruntime.transformers.float16", "onnx")
    onnx_model: Any = require("onnxruntime.transformers.onnx_model", "onnx")
    # onnxconverter-common's converter breaks Resize and Clip; this one, with no blocked operators, does not.
    graph = float16.convert_float_to_float16(onnx.load(str(path)), keep_io_types=True, op_block_list=[])
    # It appends its casts at the end; the ONNX standard wants nodes in the order of computation.
    ordered = onnx_model.OnnxModel(graph)
    ordered.topological_sort()
    onnx.save(ordered.model, str(path))
