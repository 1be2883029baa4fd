"""Networks that kseg did not make: told at `kseg.save` what will not work, run as `predict` runs them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kseg
from kseg.errors import UsageError
from kseg.inference import Predictor
from kseg.inference.keras_runtime import KerasRuntime

SPEC = kseg.Spec(classes=("a", "b", "c"))


def foreign(head: Any = None, size: tuple[int | None, int | None] = (None, None), stride: int = 1) -> Any:
    """A network of plain Keras layers, `head` behind its three maps."""
    image = keras.Input((*size, 3))
    x = keras.layers.Conv2D(3, 3, strides=stride, padding="same")(image)
    return keras.Model(image, x if head is None else head(x), name="foreign")


def enlarged(stride: int = 4) -> Any:
    """Keras' bilinear enlargement looks at the sizes in Python, so it cannot be traced without them."""
    return foreign(keras.layers.UpSampling2D(stride, interpolation="bilinear"), stride=stride)


def test_logits_at_input_size_are_saved_without_a_word(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for index, model in enumerate((foreign(), foreign(size=(20, 30)), enlarged())):
            kseg.save(model, tmp_path / f"{index}.keras", SPEC)


@pytest.mark.parametrize("size", [(None, None), (32, 48)])
def test_half_size_logits_are_refused(size: tuple, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'foreign' gives \d+x\d+ for an image of .*BilinearUpsampling"):
        kseg.save(foreign(size=size, stride=2), tmp_path / "half.keras", SPEC)
    assert not list(tmp_path.iterdir())


def test_another_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"images \(B, H, W, C\) into logits .* to \(None, 3\)"):
        kseg.save(foreign(keras.layers.GlobalAveragePooling2D()), tmp_path / "flat.keras", SPEC)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "head",
    [
        keras.layers.Softmax(),
        keras.layers.Conv2D(3, 1, activation="softmax"),
        lambda x: keras.layers.UpSampling2D(2)(keras.layers.Softmax()(keras.layers.MaxPooling2D()(x))),
    ],
)
def test_probabilities_are_noted(head: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'foreign' gives probabilities: kseg takes logits"):
        kseg.save(foreign(head), tmp_path / "soft.keras", SPEC)
    assert kseg.load(tmp_path / "soft.keras").output.shape[-1] == 3


def test_several_outputs_are_noted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 inputs and 2 outputs: it is saved whole, but Predictor"):
        kseg.save(foreign(lambda x: [x, keras.layers.ReLU()(x)]), tmp_path / "two.keras", SPEC)


def test_a_network_that_cannot_be_tried_is_noted(tmp_path: Path) -> None:
    fits = keras.layers.Reshape((100, 100, 3))
    with pytest.warns(UserWarning, match="could not be tried on an image of 64x128"):
        kseg.save(foreign(fits), tmp_path / "own.keras", SPEC)


def test_a_network_that_must_know_the_size_runs_and_exports(tmp_path: Path) -> None:
    model = enlarged()
    model.spec = kseg.save(model, tmp_path / "model.keras", SPEC)
    runtime = KerasRuntime(model)
    for size in ((32, 48), (16, 64), (32, 48)):
        images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
        np.testing.assert_allclose(runtime(images), model(images, training=False), atol=1e-5)
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype="uint8")
    assert Predictor(tmp_path / "model.keras")(picture)[0].shape == (32, 48)
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    import deploy

    images = images[:1]
    for suffix in ("onnx", "tflite"):
        path = tmp_path / f"model.{suffix}"
        deploy.export(tmp_path / "model.keras", path, size=(32, 48), verify=False)
        np.testing.assert_allclose(
            deploy.load(path)(images), model(images, training=False), atol=1e-4, err_msg=suffix
        )


@keras.saving.register_keras_serializable(package="test")
class Broken(keras.layers.Layer):
    """Fails in every call but the symbolic one, as a layer of another library may."""

    def call(self, x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            raise ValueError("this layer wants another image\nand says so at length")
        return x

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def test_what_cannot_run_says_why_in_one_line() -> None:
    model = foreign(Broken())
    model.spec = SPEC
    with pytest.raises(
        UsageError, match=r"cannot be run as a graph on images of shape .*another image"
    ) as caught:
        KerasRuntime(model)(np.zeros((1, 8, 8, 3), "float32"))
    assert "\n" not in str(caught.value)


def test_deeplab_of_keras_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    encoder = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        use_pre_activation=False,
    )
    backbone = hub.models.DeepLabV3Backbone(
        image_encoder=encoder, spatial_pyramid_pooling_key="P4", upsampling_size=16, dilation_rates=[2, 4]
    )
    model = hub.models.DeepLabV3ImageSegmenter(backbone=backbone, num_classes=3, preprocessor=None)
    model.spec = kseg.save(model, tmp_path / "deeplab.keras", SPEC)
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype="uint8")
    for source in (model, tmp_path / "deeplab.keras"):
        assert Predictor(source)(picture)[0].shape == (64, 96)
    pytest.importorskip("onnxruntime")
    import deploy

    path = tmp_path / "deeplab.onnx"
    deploy.export(model, path, size=(64, 96), verify=False)
    image = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype("float32")
    np.testing.assert_allclose(deploy.load(path)(image), KerasRuntime(model)(image), atol=1e-3)
