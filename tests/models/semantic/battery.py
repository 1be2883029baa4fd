"""The battery that every network passes. A network's own test file is its toy arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

import kseg
from kseg.data import Sample, preprocess
from kseg.inference import Predictor
from kseg.losses import PixelCrossEntropy
from kseg.models import ModelInfo, create, describe

CLASSES = 3
COLORS = np.array([[240, 60, 60], [60, 240, 60], [60, 60, 240]])
SPEC = kseg.Spec(classes=("red", "green", "blue"))
# Builtins that every LiteRT runtime has carry no such prefix; a broken conversion leaves the others behind.
FOREIGN_OPS = ("Flex", "Custom", "VAR_HANDLE", "READ_VARIABLE")


def four_samples(height: int, width: int, block: int = 32) -> list[Sample]:
    """Four pictures of noisy coloured blocks and their masks, with a few void pixels."""
    random = np.random.default_rng(3)
    cells = random.integers(0, CLASSES, (4, -(-height // block), -(-width // block)))
    masks = cells.repeat(block, 1).repeat(block, 2)[:, :height, :width]
    images = np.clip(COLORS[masks] + random.normal(0, 12, (*masks.shape, 3)), 0, 255).astype("uint8")
    masks[:, :2, :3] = SPEC.ignore_id
    return [Sample(f"toy{i}", images[i], masks[i].astype("uint8"), None) for i in range(4)]


def batch(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """What the network is trained on: float32 (4, H, W, 3), int32 (4, H, W)."""
    images = np.stack([preprocess(sample.image, SPEC.normalization) for sample in samples])
    return images, np.stack([sample.mask for sample in samples]).astype("int32")


class ModelBattery:
    """Subclass it as `Test...`, name the architecture, give toy arguments.

    `toy` must make a net of milliseconds per step; `rate` and `steps` must overfit four images.
    """

    architecture: str
    toy: ClassVar[dict[str, Any]] = {}
    size: ClassVar[tuple[int, int]] = (64, 96)
    odd_sizes: ClassVar[tuple[tuple[int, int], ...]] = ((45, 61), (70, 33))
    rate: ClassVar[float] = 3e-3
    steps: ClassVar[int] = 40

    @classmethod
    def make(cls, size: tuple[int | None, int | None] = (None, None)) -> keras.Model:
        """Build the toy network."""
        # Dropout is noise that overfitting does not need; not every network has one.
        off = {"dropout": 0.0} if "dropout" in describe(cls.architecture).parameters else {}
        return create(cls.architecture, input_shape=(*size, 3), num_classes=CLASSES, **{**off, **cls.toy})

    @classmethod
    def compiled(cls, optimizer: keras.optimizers.Optimizer) -> keras.Model:
        """The toy network of unknown H and W, ready for `fit`, always from the same weights."""
        keras.utils.set_random_seed(1)
        model = cls.make()
        model.compile(optimizer, PixelCrossEntropy(ignore_id=SPEC.ignore_id))
        model.spec = SPEC
        return model

    @pytest.fixture(scope="class")
    def trained(self) -> tuple[keras.Model, list[float]]:
        """The toy network after it saw four images many times; and its losses."""
        model = self.compiled(keras.optimizers.Adam(self.rate, clipnorm=1.0))
        images, masks = batch(four_samples(*self.size))
        history = model.fit(images, masks, batch_size=4, epochs=self.steps, verbose=0, shuffle=False)
        return model, history.history["loss"]

    @pytest.fixture(scope="class")
    def predictor(self, trained: Any) -> Predictor:
        return Predictor(trained[0])

    @pytest.fixture(scope="class")
    def saved(self, trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The trained network as a file; from then on the network has the file's spec."""
        path = tmp_path_factory.mktemp("model") / "model.keras"
        trained[0].spec = kseg.save(trained[0], path)
        return path

    @pytest.fixture(scope="class")
    def small(self) -> list[Sample]:
        """Samples of the size that is exported: padding and crop are part of the artefacts."""
        return four_samples(self.size[0] - 3, self.size[1] - 5)

    @pytest.fixture(scope="class")
    def exported(
        self, trained: Any, saved: Path, small: list[Sample], tmp_path_factory: pytest.TempPathFactory
    ) -> dict[str, Path]:
        """One artefact per suffix; the `.onnx` is the graph that the engine was built from."""
        for module in ("ai_edge_litert", "onnxruntime", "tensorrt_rtx"):
            pytest.importorskip(module)
        import deploy

        folder = tmp_path_factory.mktemp("exported")
        paths = {"tflite": folder / "model.tflite", "engine": folder / "model.engine"}
        for path in paths.values():
            deploy.export(trained[0], path, size=small[0].mask.shape, verify=False)
        return {**paths, "onnx": folder / "model.engine.onnx"}

    def test_builds_at_two_sizes_with_float32_logits_in_any_policy(self) -> None:
        before = keras.config.dtype_policy()
        for size, policy in ((self.size, "float32"), ((160, 128), "mixed_bfloat16")):
            keras.config.set_dtype_policy(policy)
            try:
                model = self.make(size)
            finally:
                keras.config.set_dtype_policy(before)
            assert model.output.shape == (None, *size, CLASSES)
            assert model.output.dtype == "float32"
        assert any(layer.compute_dtype == "bfloat16" for layer in model.layers if layer.weights)

    def test_predicts_images_of_odd_sizes(self, predictor: Predictor) -> None:
        for size in self.odd_sizes:
            image = four_samples(*size)[0].image
            assert predictor(image)[0].shape == size
            logits = predictor.logits(image)
            assert (logits.shape, logits.dtype) == ((*size, CLASSES), "float32")
            assert np.isfinite(logits).all()

    def test_info_rebuilds_the_network_and_every_weight_gets_a_finite_gradient(self, trained: Any) -> None:
        import tensorflow as tf

        info = trained[0].info
        assert isinstance(info, ModelInfo)
        assert info.architecture == self.architecture
        model = create(info.architecture, input_shape=(*self.size, 3), **info.arch_args)
        assert model.info == info
        # The trained weights: a score layer that starts at zero would hide what is below it.
        model.set_weights(trained[0].get_weights())
        images, masks = batch(four_samples(*self.size))
        with tf.GradientTape() as tape:
            loss = PixelCrossEntropy(ignore_id=SPEC.ignore_id)(masks, model(images, training=True))
        gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
            assert gradient is not None, f"{weight.path} gets no gradient"
            assert np.isfinite(gradient).all(), weight.path

    def test_overfits_four_images(self, trained: Any, predictor: Predictor) -> None:
        samples = four_samples(*self.size)
        losses = trained[1]
        assert losses[-1] < 0.2 * losses[0], losses
        found = np.stack(predictor([sample.image for sample in samples]))
        masks = np.stack([sample.mask for sample in samples])
        assert (found == masks)[masks != SPEC.ignore_id].mean() > 0.9

    def test_saves_and_reloads_bit_equal(self, trained: Any, saved: Path) -> None:
        model, loaded = trained[0], kseg.load(saved)
        images, _ = batch(four_samples(*self.size))
        np.testing.assert_array_equal(
            np.asarray(model(images, training=False)), np.asarray(loaded(images, training=False))
        )
        assert loaded.info == model.info
        assert loaded.spec == kseg.saving.read_spec(saved)
        assert (loaded.spec.classes, loaded.spec.architecture) == (SPEC.classes, self.architecture)

    @pytest.mark.parametrize("suffix", ["tflite", "onnx"])
    def test_artefact_computes_what_keras_computes(
        self, predictor: Predictor, exported: dict[str, Path], small: list[Sample], suffix: str
    ) -> None:
        import deploy

        image = batch(small)[0][:1]
        expected = predictor.runtime(image)
        runtime = deploy.load(exported[suffix])
        error = np.abs(runtime(image) - expected).max()
        runtime.close()
        assert error < 1e-3 * np.abs(expected).max()

    def test_tflite_has_builtin_operators_only(self, exported: dict[str, Path]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        operators = {item["op_name"] for item in Interpreter(str(exported["tflite"]))._get_ops_details()}
        assert "CONV_2D" in operators
        assert not [name for name in operators if name.startswith(FOREIGN_OPS)]

    def test_engine_is_built_and_runs_where_a_gpu_is(
        self, trained: Any, exported: dict[str, Path], small: list[Sample]
    ) -> None:
        import deploy

        outcome = deploy.verify(exported["engine"], reference=trained[0], data=small)
        assert outcome.status in (deploy.Verification.PASSED, "built, not run: no CUDA device")

    @pytest.mark.parametrize("suffix", ["tflite", "onnx", "engine"])
    def test_every_artefact_tells_its_spec(
        self, exported: dict[str, Path], small: list[Sample], suffix: str
    ) -> None:
        import deploy

        spec = deploy.read_spec(exported[suffix])
        assert (spec.classes, spec.architecture) == (SPEC.classes, self.architecture)
        assert spec.arch_args["num_classes"] == CLASSES
        assert spec.input_size == small[0].mask.shape
