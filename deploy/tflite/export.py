"""Keras to `.tflite`: static batch 1, builtin operators only, int8 of convolutions only."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        # The quantizer holds all that it is given; in portions, memory does not grow with the images.
        while portion := [{INPUT: image[None]} for image in itertools.islice(images, PORTION)]:
            ranges = quantizer.calibrate({SIGNATURE: portion}, ranges, num_threads=os.cpu_count() or 1)
        with large_weights():
            return bytes(quantizer.quantize(ranges).quantized_model)

    def _keep_float(self, content: bytes, quantizer: Any, qtyping: Any) -> None:
        """Take the operators that the caller named out of the quantizer's recipe; the last rule wins."""
        pattern = self.job.request.keep_float
        if pattern is None:
            return
        wanted = Pattern(pattern)
        kept = sorted(name for name in _scopes(content) if wanted.found_in(name))
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


def _scopes(content: bytes) -> set[str]:
    """Return the names by which the quantizer knows the operators of a `.tflite`: those of their outputs."""
    utils: Any = require("ai_edge_quantizer.utils.tfl_flatbuffer_utils", "litert")
    model = utils.read_model(bytearray(content))
    return {utils.get_op_scope(op, graph.tensors) for graph in model.subgraphs for op in graph.operators}


def _unsupported(message: str) -> str:
    """Shorten the converter's page-long message to the operators it names."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("TF Select ops:", "TF Custom ops:", "Custom ops:"))]
    chosen = named or lines[:1] or ["no reason given"]
    return "; ".join(dict.fromkeys(chosen))[:400]
