"""KerasRuntime and load_runtime: a model file or a model in memory behind the runtime's one call."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import pytest
from fake_runtime import Identity, picture, toy_spec

from kseg import saving
from kseg.errors import ArtefactError, UsageError
from kseg.inference import Predictor, Runtime, load_runtime, runtime
from kseg.inference.keras_runtime import KerasRuntime
from kseg.layers import BilinearUpsampling, CropLike, PadToStride
from kseg.spec import Spec


def network(size: tuple[int | None, int | None] = (None, None), classes: int = 3) -> keras.Model:
    image = keras.Input((*size, 3), name="image")
    x = PadToStride(4)(image)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=4, padding="same")(x))
    x = BilinearUpsampling(4)(keras.layers.Conv2D(classes, 1)(x))
    model = keras.Model(image, CropLike()([x, image]))
    model.spec = toy_spec(classes)
    return model


def test_it_answers_like_the_model_at_any_size() -> None:
    model = network()
    run = KerasRuntime(model)
    assert isinstance(run, Runtime)
    assert run.name == "keras"
    assert run.input_size is None
    for shape in ((1, 8, 8, 3), (2, 17, 23, 3), (1, 1, 1, 3)):
        images = np.random.default_rng(0).normal(size=shape).astype("float32")
        expected = keras.ops.convert_to_numpy(model(images, training=False))
        answer = run(images)
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert KerasRuntime(network((16, 24))).input_size == (16, 24)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts traces of tf.function")
def test_other_sizes_cause_no_second_trace() -> None:
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):  # type: ignore[no-untyped-def]
            traces.append(1)
            return x

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(Counting()(image)))
    model.spec = toy_spec(3)
    predict = Predictor(model)
    traces.clear()
    predict([np.zeros((size, size + 3, 3), np.uint8) for size in range(1, 12)])
    assert len(traces) == 1


def test_a_model_in_training_gives_its_present_answers() -> None:
    model = network()
    run = KerasRuntime(model)
    images = np.ones((1, 8, 8, 3), np.float32)
    before = run(images)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel * 2)
    assert not np.allclose(before, run(images))
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(run(images), expected, atol=1e-5)


def test_a_saved_file_predicts_what_the_model_predicts(tmp_path: Path) -> None:
    model = network()
    path = tmp_path / "model.keras"
    saving.save(model, path, model.spec.replace(input_size=(32, 40)))
    image = np.random.default_rng(1).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    from_file, from_memory = Predictor(path), Predictor(model, size=(32, 40))
    assert from_file.size == (32, 40)
    np.testing.assert_allclose(from_file.logits(image), from_memory.logits(image), atol=1e-5)
    assert np.array_equal(from_file(image)[0], from_memory(image)[0])


def test_models_without_spec_or_with_other_outputs_are_refused() -> None:
    model = network()
    del model.spec
    with pytest.raises(UsageError, match="no Spec"):
        KerasRuntime(model)
    assert KerasRuntime(model, toy_spec(3)).spec == toy_spec(3)
    image = keras.Input((8, 8, 3))
    vector = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(UsageError, match="one output of logits"):
        KerasRuntime(vector, toy_spec(3))


def test_every_suffix_of_setup_is_known_and_others_are_listed(tmp_path: Path) -> None:
    assert {".keras", ".tflite", ".onnx", ".engine"} <= set(runtime.runtimes())
    with pytest.raises(UsageError, match=r"\.keras.*\.onnx"):
        load_runtime(tmp_path / "model.pt")
    with pytest.raises(ArtefactError, match="does not exist"):
        load_runtime(tmp_path / "model.keras")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ArtefactError, match="is a folder"):
        load_runtime(tmp_path / "folder.keras")


def test_another_package_can_add_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FromFile(Identity):
        def __init__(self, path: Path) -> None:
            super().__init__(Spec.from_json(path.read_text()))

    class Point:
        name = ".toy"

        def load(self) -> type:
            return FromFile

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point()] if group == "kseg.runtimes" else [])
    (tmp_path / "model.TOY").write_text(toy_spec().to_json())
    ids = np.arange(6).reshape(2, 3)
    assert np.array_equal(Predictor(tmp_path / "model.TOY")(picture(ids))[0], ids)


def test_it_runs_on_the_other_backend(tmp_path: Path) -> None:
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    pytest.importorskip(other)
    model = network()
    saving.save(model, tmp_path / "model.keras", model.spec)
    image = np.random.default_rng(2).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy as np\n"
        "from kseg.inference import Predictor\n"
        "predict = Predictor(sys.argv[1] + '/model.keras', flip=True)\n"
        "np.save(sys.argv[1] + '/logits.npy', predict.logits(np.load(sys.argv[1] + '/image.npy')))\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": other}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    expected = Predictor(model, flip=True).logits(image)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)
