"""Keras to `.tflite`: static batch 1, builtin operators only, int8 of convolutions only."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.conversion import Request, named_outputs
from deploy.ends import INPUT
from deploy.keep_float import Pattern
from deploy.template import Exporter
from deploy.tflite.large_weights import large_weights
from deploy.tflite.runtime import TFLiteRuntime
from kseg.errors import ArtefactError, require

if TYPE_CHECKING:
    import keras

# Quantising these gives the speed; resizing, normalisation, softmax and geometry stay in float, which
# is where int8 loses mIoU (and, for transformers, splits the graph into slow pieces).
INT8_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")
PORTION = 8
SIGNATURE = "serving_default"
# A file that has these was traced without its variables: it is tiny and answers NaN.
_UNBOUND = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


class TFLiteExporter(Exporter):
    """Export to TFLite in float32, float16 (weights) or int8 (weights and activations of convolutions)."""

    format_name = "tflite"
    tools = ("ai-edge-litert", "ai-edge-quantizer")

    @staticmethod
    def convert(model: keras.Model, path: Path, request: Request) -> None:
        """Trace the model at batch 1 and convert it with builtin operators only."""
        import tensorflow as tf

        signature = [tf.TensorSpec((1, *request.size, model.inputs[0].shape[-1]), tf.float32, name=INPUT)]
        traced = tf.function(
            lambda image: named_outputs(model, image, request.outputs), input_signature=signature
        ).get_concrete_function()
        # A plain module that holds the variables, not the Keras model: with the model as the trackable
        # the converter leaves the variables out of the file.
        holder = tf.Module()
        holder.variables_of_model = [variable.value for variable in model.variables]
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], holder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if request.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:
            # The converter raises its own classes, private to TensorFlow.
            raise ArtefactError(f"TFLite conversion failed: {_unsupported(str(error))}") from error
        path.write_bytes(content)

    def lower(self, path: Path) -> None:
        """Quantise to int8 where that was asked for."""
        if self.job.request.precision == "int8":
            path.write_bytes(self._quantized(path.read_bytes()))

    def _quantized(self, content: bytes) -> bytes:
        quantizer_module: Any = require("ai_edge_quantizer.quantizer", "int8")
        qtyping: Any = require("ai_edge_quantizer.qtyping", "int8")
        calibration = self.job.calibration
        if calibration is None:
            raise AssertionError("int8 reaches the exporter with its calibration images")
        quantizer = quantizer_module.Quantizer(bytearray(content))
        for operator in INT8_OPERATORS:
            quantizer.add_static_config(".*", qtyping.TFLOperationName(operator), 8, 8)
        self._keep_float(content, quantizer, qtyping)
        ranges = None
        images = calibration.images()
        calibrate = _calibrates_widest(content, quantizer) if calibration.widest else quantizer.calibrate
        # The quantizer holds all that it is given; in portions, memory does not grow with the images.
        while portion := [{INPUT: image[None]} for image in itertools.islice(images, PORTION)]:
            ranges = calibrate({SIGNATURE: portion}, ranges, num_threads=os.cpu_count() or 1)
        with large_weights():
            return bytes(quantizer.quantize(ranges).quantized_model)

    def _keep_float(self, content: bytes, quantizer: Any, qtyping: Any) -> None:
        """Take the operators that the caller named out of the quantizer's recipe; the last rule wins."""
        pattern = self.job.request.keep_float
        if pattern is None:
            return
        wanted = Pattern(pattern)
        scopes = _scopes(content, _output_layers(self.job.model, self.job.request.outputs))
        kept = sorted(scope for scope, names in scopes.items() if any(map(wanted.found_in, names)))
        if not kept:
            return
        # The quantizer searches with Python's own engine: it gets the names themselves, not the pattern.
        exactly = f"^(?:{'|'.join(re.escape(name) for name in kept)})$"
        for operator in INT8_OPERATORS:
            quantizer.update_quantization_recipe(
                exactly, qtyping.TFLOperationName(operator), algorithm_key="no_quantize"
            )

    def check_graph(self, path: Path) -> None:
        """Refuse select-TF operators and unbound variables; in int8, refuse a file that stayed float."""
        runtime = TFLiteRuntime(path, threads=1)
        operators = runtime.operators()
        runtime.close()
        foreign = sorted(name for name in operators if name.startswith("Flex") or name in _UNBOUND)
        if foreign:
            raise ArtefactError(f"The .tflite has operators that a plain interpreter cannot run: {foreign}")
        if self.job.request.precision == "int8" and "QUANTIZE" not in operators:
            raise ArtefactError("Nothing in this network could be quantised to int8; export it in float16.")


def _calibrates_widest(content: bytes, quantizer: Any) -> Callable[..., Any]:
    """Return what calibrates as the quantizer does, but takes the widest ranges.

    The quantizer's own average forgets all but the last twenty inputs, and cuts what half of them have.
    """
    calibrators: Any = require("ai_edge_quantizer.calibrator", "int8")
    recipes: Any = require("ai_edge_quantizer.recipe_manager", "int8")
    recipe = recipes.RecipeManager()
    recipe.load_quantization_recipe(quantizer.get_quantization_recipe())

    def wider(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        if not before:
            return now
        return {"min": np.minimum(before["min"], now["min"]), "max": np.maximum(before["max"], now["max"])}

    def calibrate(data: Any, before: Any, *, num_threads: int) -> Any:
        made = calibrators.Calibrator(content, num_threads=num_threads, qsv_update_func=wider)
        made.load_model_qsvs(before or {})
        made.calibrate(data, recipe)
        return made.get_model_qsvs()

    return calibrate


def _output_layers(model: keras.Model, outputs: Sequence[str]) -> dict[str, str]:
    """Return the layer that makes each output of a network, by the output's name."""
    made = model.output if isinstance(model.output, dict) else {outputs[0]: model.outputs[0]}
    return {name: made[name]._keras_history.operation.name for name in outputs}


def _scopes(content: bytes, output_layers: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the names by which the quantizer knows the operators of a `.tflite` -> what a pattern may find.

    The quantizer's names are those of an operator's outputs: paths of layers, `model_1/layer_1/MatMul;`. What
    makes an output of the graph has lost its path ("StatefulPartitionedCall:0"): it goes by its layer and by
    its output too.
    """
    utils: Any = require("ai_edge_quantizer.utils.tfl_flatbuffer_utils", "litert")
    model = utils.read_model(bytearray(content))
    signature = {found.tensorIndex: found.name.decode() for found in model.signatureDefs[0].outputs}
    scopes: dict[str, set[str]] = {}
    for number, graph in enumerate(model.subgraphs):
        for op in graph.operators:
            scope = utils.get_op_scope(op, graph.tensors)
            names = scopes.setdefault(scope, {scope})
            for index in op.outputs if number == model.signatureDefs[0].subgraphIndex else ():
                if index in signature:
                    names |= {signature[index], output_layers[signature[index]]}
    return scopes


def _unsupported(message: str) -> str:
    """Shorten the converter's page-long message to the operators it names."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("TF Select ops:", "TF Custom ops:", "Custom ops:"))]
    chosen = named or lines[:1] or ["no reason given"]
    return "; ".join(dict.fromkeys(chosen))[:400]
