"""Every instance network, as `create(name)` gives it, in float formats: what toys do not show.

Minutes and gigabytes: `make test-all` runs it, `make test` does not.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from memory import skip_without_memory_for_onnx
from truths import check_objects, image

import kseg
from kseg.models import create, describe, names

SIZE = (128, 160)
# Random networks are unsure: rounding turns the order of a few boxes, and what they suppress.
FOUND_BY_BOTH = 0.9
THIN = {"encoder": None, "width": 0.0625, "hidden": 64, "mask_hidden": 64}

pytestmark = pytest.mark.slow


def _sure(model: keras.Model) -> None:
    """Draw the kernels of what tells classes and objects so large that something is found.

    Those of proposals smaller: logits above 16 are all 1 to float32, each runtime from another number on, and
    the order of what ties is nobody's.
    """
    random = np.random.default_rng(6)
    for layer in model.layers:
        if layer.name in {"rpn_score", "box_score", "mask_score", "object"}:
            kernel = layer.trainable_weights[0]
            scale = (1 if layer.name == "rpn_score" else 8) * np.prod(kernel.shape[:-1]) ** -0.5
            kernel.assign(random.normal(0, scale, kernel.shape).astype("float32"))


@pytest.fixture(scope="module", params=names("instance"))
def network(request: pytest.FixtureRequest) -> Iterator[keras.Model]:
    keras.utils.set_random_seed(1)
    model = create(request.param)
    _sure(model)
    classes = model.info.arch_args["num_classes"]
    model.spec = kseg.Spec(classes=tuple(f"class {index}" for index in range(classes)), task="instance")
    yield model
    del model
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(scope="module")
def expected(network: keras.Model) -> dict[str, np.ndarray]:
    given = network(image(1, SIZE), training=False)
    found = {name: keras.ops.convert_to_numpy(value) for name, value in given.items()}
    check_objects(found, SIZE, network.spec.num_classes)
    return found


def _found_by_both(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the share of expected detections that are there, with class, score and box to half a pixel."""
    real = expected["scores"][0] > 0
    boxes = np.abs(expected["boxes"][0][real][:, None] - found["boxes"][0]).max(-1) < 0.5
    classes = expected["classes"][0][real][:, None] == found["classes"][0]
    scores = np.abs(expected["scores"][0][real][:, None] - found["scores"][0]) < 0.01
    return float((boxes & classes & scores).any(1).mean())


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_default_objects_after_export(
    network: keras.Model, expected: dict[str, np.ndarray], target: str, tmp_path: Path
) -> None:
    pytest.importorskip({"tflite": "ai_edge_litert", "onnx": "onnxruntime"}[target])
    import deploy

    if target == "onnx":
        skip_without_memory_for_onnx(network)
    path = tmp_path / f"model.{target}"
    deploy.export(network, path, size=SIZE, verify=False)
    runtime = deploy.load(path)
    try:
        found = {name: np.asarray(values) for name, values in runtime.outputs(image(1, SIZE)).items()}
    finally:
        runtime.close()
    assert _found_by_both(found, expected) >= FOUND_BY_BOTH


@pytest.mark.parametrize("name", names("instance"))
def test_an_engine_sorts_as_many_boxes_as_published(name: str, tmp_path: Path) -> None:
    """TensorRT sorts no more than 3,840 numbers. Counts of boxes are the default's, the layers thin."""
    pytest.importorskip("tensorrt_rtx")
    import deploy

    known = describe(name).parameters
    model = create(name, **{key: value for key, value in THIN.items() if key in known})
    _sure(model)
    classes = tuple(f"class {index}" for index in range(model.info.arch_args["num_classes"]))
    path = tmp_path / "model.engine"
    deploy.export(
        model, path, format="tensorrt-rtx", size=SIZE, verify=False,
        spec=kseg.Spec(classes=classes, task="instance"),
    )  # fmt: skip
    runtime = deploy.load(f"{path}.onnx")
    found = {key: np.asarray(values) for key, values in runtime.outputs(image(1, SIZE)).items()}
    runtime.close()
    check_objects(found, SIZE, len(classes))
