"""Every network, as `create(name)` gives it, in every format: what thin toys do not show.

Minutes and gigabytes: `make test-all` runs it, `make test` does not.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from memory import skip_without_memory_for_onnx

import kseg
from kseg.data import Sample, preprocess
from kseg.models import create, names

SIZE = (64, 96)
# rms error / std of the logits on a calibration image. Measured with random weights: 0.014 (PinheiroCNN) to
# 0.062 (TextonBoost).
INT8_ERROR = 0.15
# Pooling switches jump where two values of a window are nearly equal, and with random weights many are: 0.38,
# with `unpooling="fixed"` 0.04. (Trained, both keep their mIoU: recipes/lecture/results/exports.json.)
INT8_ERROR_OF_SWITCHES = 0.5

pytestmark = pytest.mark.slow


def _samples(spec: kseg.Spec) -> list[Sample]:
    """Four smooth random pictures: neighbouring pixels are alike, as in photos."""
    random = np.random.default_rng(5)
    small = random.uniform(0, 255, (4, SIZE[0] // 8, SIZE[1] // 8, 3)).astype("float32")
    images = np.asarray(keras.ops.image.resize(small, SIZE, interpolation="bicubic")).clip(0, 255)
    mask = random.integers(0, spec.num_classes, SIZE).astype("uint8")
    return [Sample(f"smooth{i}", image.astype("uint8"), mask, None) for i, image in enumerate(images)]


def _without_zeros(model: keras.Model) -> None:
    """Draw the kernels that start at zero (score layers): constant logits would hide what is below them."""
    random = np.random.default_rng(6)
    for layer in model.layers:
        for weight in layer.trainable_weights:
            if len(weight.shape) > 1 and not np.asarray(weight).any():
                scale = np.prod(weight.shape[:-1]) ** -0.5
                weight.assign(random.normal(0, scale, weight.shape).astype("float32"))


@pytest.fixture(scope="module", params=names("semantic"))
def network(request: pytest.FixtureRequest) -> Iterator[keras.Model]:
    keras.utils.set_random_seed(1)
    model = create(request.param)
    _without_zeros(model)
    classes = model.output.shape[-1]
    model.spec = kseg.Spec(classes=tuple(f"class {index}" for index in range(classes)))
    yield model
    del model
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(scope="module")
def picture(network: keras.Model) -> np.ndarray:
    return preprocess(_samples(network.spec)[0].image, network.spec.normalization)[None]


@pytest.fixture(scope="module")
def expected(network: keras.Model, picture: np.ndarray) -> np.ndarray:
    logits = keras.ops.convert_to_numpy(network(picture, training=False))
    assert logits.std() > 0
    return logits


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


def _answer(path: Path, picture: np.ndarray) -> np.ndarray:
    import deploy

    runtime = deploy.load(path)
    try:
        return runtime(picture)
    finally:
        runtime.close()


def test_tflite(network: keras.Model, picture: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    import tensorflow as tf

    import deploy
    from deploy.tflite.container import read_model

    path = tmp_path / "model.tflite"
    deploy.export(network, path, size=SIZE, verify=False)
    assert _error(_answer(path, picture), expected) < 1e-3
    # TensorFlow's own interpreter, where it still has one, has an older XNNPACK than LiteRT's.
    if not hasattr(tf.lite, "Interpreter"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=read_model(path)[0])
        (found,) = interpreter.get_signature_runner()(image=picture).values()
    assert _error(found, expected) < 1e-3


def test_int8(network: keras.Model, picture: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    import deploy

    path = tmp_path / "model.tflite"
    samples = _samples(network.spec)
    deploy.export(network, path, size=SIZE, precision="int8", calibration=samples, verify=False)
    bound = INT8_ERROR_OF_SWITCHES if network.info.architecture == "DeconvNet" else INT8_ERROR
    assert _error(_answer(path, picture), expected) < bound


def test_onnx(network: keras.Model, picture: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import deploy

    skip_without_memory_for_onnx(network)
    path = tmp_path / "model.onnx"
    deploy.export(network, path, size=SIZE, verify=False)
    assert _error(_answer(path, picture), expected) < 1e-3
