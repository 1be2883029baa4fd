"""What a runtime costs over its library alone, where the output is large: `kseg benchmark` tells the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import ToySample

import deploy
from deploy.tflite.container import read_model
from deploy.worker import INPUTS, Worker
from kseg.spec import Spec

SIZE, CLASSES = (224, 320), 21
ALLOWED = 1.05
# Others use the machine too: the least of many interleaved calls is what each costs by itself. Where the
# allocator puts an interpreter's memory moves it by a tenth, so both are loaded anew a few times.
LOADINGS, ROUNDS, CALLS = 5, 20, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A small network with a large output, in every format, and the inputs that a worker is given."""
    import keras

    from kseg.layers import BilinearUpsampling
    from kseg.saving import save

    folder = tmp_path_factory.mktemp("large")
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(64, 9, strides=4, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, BilinearUpsampling(4)(keras.layers.Conv2D(CLASSES, 1)(x)))
    model.spec = Spec(classes=tuple(f"c{n}" for n in range(CLASSES)), input_size=SIZE, resize="stretch")
    save(model, folder / "m.keras", model.spec)
    rng = np.random.default_rng(0)
    samples = [
        ToySample(f"s{n}", rng.integers(0, 256, (*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8))
        for n in range(2)
    ]
    for name, precision in (("m.tflite", "float32"), ("m.onnx", "float32"), ("int8.tflite", "int8")):
        wanted = samples if precision == "int8" else None
        deploy.export(model, folder / name, precision=precision, calibration=wanted, verify=False)
    np.save(folder / INPUTS, rng.standard_normal((2, *SIZE, 3)).astype(np.float32))
    return folder


def _tflite(path: Path) -> Callable[[np.ndarray], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=read_model(path)[0], num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def call(image: np.ndarray) -> Any:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return call


def _onnx(path: Path) -> Callable[[np.ndarray], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def _keras(path: Path) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    from kseg.saving import load

    model = load(path)
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    traced = tf.function(lambda image: model(image, training=False), input_signature=signature)
    return lambda image: traced(tf.constant(image)).numpy()


@pytest.mark.parametrize(
    ("name", "bare"),
    [("m.tflite", _tflite), ("int8.tflite", _tflite), ("m.onnx", _onnx), ("m.keras", _keras)],
)
def test_the_benchmark_times_the_network_alone(name, bare, files):
    tried = []
    for _ in range(LOADINGS):
        ours, theirs = _least_seconds(
            bare(files / name), Worker(str(files / name), str(files), SIZE, "none", 1)
        )
        tried.append(f"{1e3 * ours:.2f} ms against {1e3 * theirs:.2f} ms")
        if ours <= ALLOWED * theirs:
            return
    raise AssertionError(f"never within 5 %: {'; '.join(tried)}")


def _least_seconds(alone: Callable[[np.ndarray], Any], worker: Worker) -> tuple[float, float]:
    """Return what a call costs through kseg's worker and through the library, in interleaved rounds."""
    worker.load()
    worker.warm()
    images = np.array(worker._inputs)
    alone(images[:1])
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours += worker.time(CALLS)["seconds"]
        for turn in range(CALLS):
            image = np.ascontiguousarray(images[turn % len(images)][None])
            start = time.perf_counter()
            answer = alone(image)
            theirs.append(time.perf_counter() - start)
            assert answer.shape == (1, *SIZE, CLASSES)
    return min(ours), min(theirs)
