"""Run a small model on the three runtimes that every layer must reach."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import keras
import numpy as np
import pytest

Array = np.ndarray


def _need_tensorflow_backend() -> None:
    if keras.config.backend() != "tensorflow":
        pytest.skip("conversion needs the TensorFlow backend")


@pytest.fixture(scope="session")
def run_tflite() -> Callable[[keras.Model, Array], Array]:
    """Convert with TFLite builtin operations only and run."""
    _need_tensorflow_backend()
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    import tensorflow as tf

    def run(model: keras.Model, x: Array) -> Array:
        spec = [tf.TensorSpec(x.shape, tf.float32, name="image")]
        function = tf.function(lambda image: model(image, training=False), input_signature=spec)
        holder = tf.Module()
        holder.variables_kept = [v.value for v in model.variables]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], holder
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        interpreter = interpreter_module.Interpreter(model_content=converter.convert())
        ops = {op["op_name"] for op in interpreter._get_ops_details()}
        assert not [op for op in ops if op.startswith("Flex") or op in ("VAR_HANDLE", "READ_VARIABLE")]
        runner = interpreter.get_signature_runner()
        (result,) = runner(image=x).values()
        return result

    return run


@pytest.fixture(scope="session")
def to_onnx() -> Callable[[keras.Model, tuple], bytes]:
    """Convert to ONNX, opset 18; the shape may have unknown sizes."""
    _need_tensorflow_backend()
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    def convert(model: keras.Model, shape: tuple) -> bytes:
        spec = [tf.TensorSpec(shape, tf.float32, name="image")]
        with contextlib.redirect_stdout(io.StringIO()):
            proto, _ = tf2onnx.convert.from_keras(model, input_signature=spec, opset=18)
        assert [i.name for i in proto.graph.input] == ["image"]
        assert {o.domain for o in proto.opset_import} <= {"", "ai.onnx.ml"}
        return proto.SerializeToString()

    return convert


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[bytes, Array], Array]:
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(proto: bytes, x: Array) -> Array:
        session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
        return session.run(None, {"image": x})[0]

    return run


@pytest.fixture(scope="session")
def parse_tensorrt() -> Callable[[bytes], list[str]]:
    """Parse with TensorRT for RTX; return the parser's errors."""
    trt = pytest.importorskip("tensorrt_rtx")

    def parse(proto: bytes) -> list[str]:
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        parser.parse(proto)
        return [parser.get_error(i).desc() for i in range(parser.num_errors)]

    return parse
