"""The battery that every network passes. A network's own test file is its toy arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

import kseg
from kseg.losses import PixelCrossEntropy
from kseg.models import ModelInfo, create

CLASSES = 3
COLORS = np.array([[0.9, -0.6, -0.6], [-0.6, 0.9, -0.6], [-0.6, -0.6, 0.9]], "float32")
SPEC = kseg.Spec(classes=("red", "green", "blue"))
# Builtins that every LiteRT runtime has carry no such prefix; a broken conversion leaves the others behind.
FOREIGN_OPS = ("Flex", "Custom", "VAR_HANDLE", "READ_VARIABLE")


def four_images(height: int, width: int, block: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Four images of coloured blocks and their masks: float32 (4, H, W, 3), int32 (4, H, W) with void."""
    random = np.random.default_rng(3)
    cells = random.integers(0, CLASSES, (4, -(-height // block), -(-width // block)))
    masks = cells.repeat(block, 1).repeat(block, 2)[:, :height, :width].astype("int32")
    images = COLORS[masks] + random.normal(0, 0.1, (*masks.shape, 3)).astype("float32")
    masks[:, :2, :3] = SPEC.ignore_id
    return images.astype("float32"), masks


class ModelBattery:
    """Subclass it as `Test...`, name the architecture, give toy arguments.

    `toy` must make a net of well under a second per step; `rate` and `steps` must overfit four images.
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
        return create(cls.architecture, input_shape=(*size, 3), num_classes=CLASSES, dropout=0.0, **cls.toy)

    @pytest.fixture(scope="class")
    def trained(self) -> tuple[keras.Model, list[float]]:
        """The toy network of unknown H and W after it saw four images many times; and its losses."""
        keras.utils.set_random_seed(1)
        model = self.make()
        model.compile(keras.optimizers.Adam(self.rate, clipnorm=1.0), PixelCrossEntropy(ignore_id=255))
        images, masks = four_images(*self.size)
        history = model.fit(images, masks, batch_size=4, epochs=self.steps, verbose=0, shuffle=False)
        model.spec = SPEC
        return model, history.history["loss"]

    @pytest.fixture(scope="class")
    def saved(self, trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The trained network as a file."""
        path = tmp_path_factory.mktemp("model") / "model.keras"
        kseg.save(trained[0], path)
        return path

    def test_gives_float32_logits_at_input_size(self, trained: Any) -> None:
        for size in (self.size, (self.size[0] + 32, self.size[1] + 32)):
            fixed = self.make(size)
            assert fixed.output.shape == (None, *size, CLASSES)
            assert fixed.output.dtype == "float32"
        for size in self.odd_sizes:
            logits = trained[0](np.ones((2, *size, 3), "float32"), training=False)
            assert tuple(logits.shape) == (2, *size, CLASSES)
            assert np.isfinite(np.asarray(logits)).all()

    def test_logits_stay_float32_in_bfloat16(self) -> None:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = self.make(self.size)
        finally:
            keras.config.set_dtype_policy(before)
        assert model.output.dtype == "float32"
        assert any(layer.compute_dtype == "bfloat16" for layer in model.layers if layer.weights)

    def test_info_rebuilds_the_network(self, trained: Any) -> None:
        model = trained[0]
        info = model.info
        assert isinstance(info, ModelInfo)
        assert info.architecture == self.architecture
        again = create(info.architecture, input_shape=(None, None, 3), **info.arch_args)
        assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
        assert again.info == info

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        import tensorflow as tf

        model = self.make(self.size)
        images, masks = four_images(*self.size)
        for layer in model.layers:  # a score layer that starts at zero would hide what is below it
            if layer.weights and not np.any(layer.get_weights()[0]):
                first, *rest = layer.get_weights()
                layer.set_weights([np.full_like(first, 0.01) * np.arange(first.shape[-1]), *rest])
        with tf.GradientTape() as tape:
            loss = PixelCrossEntropy(ignore_id=255)(masks, model(images, training=True))
        gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
            assert gradient is not None, f"{weight.path} gets no gradient"
            assert np.isfinite(gradient).all(), weight.path

    def test_overfits_four_images(self, trained: Any) -> None:
        model, losses = trained
        images, masks = four_images(*self.size)
        found = np.asarray(model.predict(images, verbose=0)).argmax(-1)
        valid = masks != 255
        assert losses[-1] < 0.2 * losses[0], losses
        assert (found == masks)[valid].mean() > 0.9

    def test_inference_is_bit_equal_twice(self, trained: Any) -> None:
        images, _ = four_images(*self.size)
        first, second = (np.asarray(trained[0](images, training=False)) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_saves_and_reloads_bit_equal(self, trained: Any, saved: Path) -> None:
        model = trained[0]
        loaded = kseg.load(saved)
        images, _ = four_images(*self.size)
        np.testing.assert_array_equal(
            np.asarray(model(images, training=False)), np.asarray(loaded(images, training=False))
        )
        assert loaded.info == model.info
        assert loaded.spec.classes == SPEC.classes
        assert loaded.spec.architecture == self.architecture

    @pytest.mark.parametrize("suffix", ["tflite", "onnx"])
    def test_exports_with_parity_and_spec(
        self, trained: Any, saved: Path, suffix: str, tmp_path: Path
    ) -> None:
        pytest.importorskip({"tflite": "ai_edge_litert", "onnx": "onnxruntime"}[suffix])
        import deploy

        model = trained[0]
        height, width = self.size[0] - 3, self.size[1] - 5  # padding and crop are part of the file
        path = tmp_path / f"model.{suffix}"
        deploy.export(saved, path, size=(height, width), verify=False)
        spec = deploy.read_spec(path)
        assert (spec.classes, spec.architecture) == (SPEC.classes, self.architecture)
        assert spec.input_size == (height, width)
        image = four_images(height, width)[0][:1]
        runtime = deploy.load(path)
        expected = np.asarray(model(image, training=False))
        np.testing.assert_allclose(runtime(image), expected, atol=2e-3 * max(1.0, np.abs(expected).max()))
        runtime.close()
        if suffix == "tflite":
            from ai_edge_litert.interpreter import Interpreter

            ops = {item["op_name"] for item in Interpreter(str(path))._get_ops_details()}
            assert not [op for op in ops if op.startswith(FOREIGN_OPS)]

    def test_builds_an_engine_with_the_spec(self, saved: Path, tmp_path: Path) -> None:
        pytest.importorskip("tensorrt_rtx")
        import deploy

        path = tmp_path / "model.engine"
        deploy.export(saved, path, size=self.size, verify=False)
        spec = deploy.read_spec(path)
        assert (spec.classes, spec.architecture) == (SPEC.classes, self.architecture)
