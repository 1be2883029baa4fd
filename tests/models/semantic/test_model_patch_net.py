"""PatchNet through the battery; its three evaluators agree; centre-pixel rule, small images, errors."""

from __future__ import annotations

import math
from typing import ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery
from keras import ops

from kseg.errors import UsageError
from kseg.layers import RarefiedConv2D, RarefiedMaxPooling2D
from kseg.models import PatchNet, flops, forms
from kseg.models.parts.chain import Chain
from kseg.models.parts.patchwise import border, dense_network
from kseg.models.summary import parameters, shapes_only
from kseg.semantic.inference.patch_by_patch import sliding_window


class TestPatchNet(ModelBattery):
    architecture = "PatchNet"
    toy: ClassVar = {"width": 0.125, "output_stride": 2}
    steps = 25


def _image(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(1, height, width, channels)).astype("float32")


def _logits(model: keras.Model, image: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(model(image))[0]


def _toy(**arguments) -> keras.Model:
    keras.utils.set_random_seed(2)
    return PatchNet(num_classes=3, width=0.125, dropout=0.0, **arguments)


def test_reference_model_has_its_receptive_field_stride_and_parameters() -> None:
    with shapes_only():
        model = PatchNet(num_classes=21)
    assert parameters(model) == (789_621, 789_621)
    form = forms.patch_form(model)
    assert (form.size, form.centre) == (61, 30)
    assert form.model.input_shape == (None, 61, 61, 3)
    assert form.model.output_shape == (None, 1, 1, 21)
    assert PatchNet(output_stride=8, width=0.1).info.stride == 8
    with pytest.raises(UsageError, match="one of 1, 2, 4, 8"):
        PatchNet(output_stride=16)
    with pytest.raises(UsageError, match=r"`evaluator` must be one of .*Did you mean 'stitch'"):
        PatchNet(evaluator="stich")


@pytest.mark.parametrize("size", [(13, 71), (1, 5)])
def test_three_evaluators_agree_on_images_of_any_size(size: tuple[int, int]) -> None:
    image = _image(*size)
    dilated, stitch = _toy(), _toy(evaluator="stitch", input_shape=(*size, 3))
    naive = sliding_window(forms.patch_form(dilated), image[0])
    assert naive.shape == (*size, 3)
    assert np.ptp(naive) > 0.1
    np.testing.assert_allclose(_logits(dilated, image), naive, atol=1e-5)
    np.testing.assert_allclose(_logits(stitch, image), naive, atol=1e-5)


def test_multiply_adds_of_the_dense_form_are_those_of_its_layers() -> None:
    """Per output position and weight one, at dilations 1, 2, 4, 8: what the speed-up is counted from."""
    model = _toy(output_stride=1)
    height, width, expected = 10 + 60, 14 + 60, 0
    for name, reach in (("conv1", 5), ("conv2", 1 + 8), ("conv3", 2 + 16), ("fc4", 4 + 24), ("score", 0)):
        height, width = height - reach, width - reach
        expected += height * width * math.prod(model.get_layer(name).kernel.shape)
    assert (height, width) == (10, 14)
    assert flops(model, (10, 14)) == 2 * expected


def test_patch_form_shares_its_weights_with_both_dense_forms() -> None:
    model = _toy()
    form = forms.patch_form(model)
    assert {id(weight) for weight in form.model.weights} == {id(weight) for weight in model.weights}
    stitch = _toy(evaluator="stitch")
    assert [weight.path for weight in stitch.weights] == [weight.path for weight in model.weights]


@pytest.mark.parametrize("output_stride", [2, 8])
def test_coarse_forms_score_the_middle_of_their_pixels(output_stride: int) -> None:
    image = _image(21, 26)
    dilated = _toy(output_stride=output_stride)
    stitch = _toy(output_stride=output_stride, evaluator="stitch")
    np.testing.assert_allclose(_logits(stitch, image), _logits(dilated, image), atol=1e-5)
    scores = keras.Model(dilated.input, dilated.get_layer("upsample_logits").input)
    first = (output_stride - 1) // 2
    rows, columns = range(first, 21, output_stride), range(first, 26, output_stride)
    pixels = [(y, x) for y in rows for x in columns]
    naive = sliding_window(forms.patch_form(dilated), image[0], pixels=pixels)
    inside = _logits(scores, image)[: len(rows), : len(columns)]
    np.testing.assert_allclose(inside.reshape(-1, 3), naive, atol=1e-5)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("evaluator", ["dilated", "stitch"])
def test_a_filter_that_copies_the_centre_pixel_returns_the_image(kernel: int, evaluator: str) -> None:
    """Of an even patch the centre is the first of the two pixels in the middle."""
    copy = RarefiedConv2D(1, kernel, use_bias=False, name="copy")
    model = dense_network("copy", Chain([copy]), (None, None, 1), evaluator, output_stride=1)
    weights = np.zeros((kernel, kernel, 1, 1), "float32")
    centre = forms.patch_form(model).centre
    assert centre == (kernel - 1) // 2
    weights[centre, centre] = 1
    copy.set_weights([weights])
    image = _image(9, 12, 1)
    np.testing.assert_array_equal(_logits(model, image), image[0])
    np.testing.assert_array_equal(sliding_window(forms.patch_form(model), image[0]), image[0])


@pytest.mark.parametrize("layers", [(3, 2, 4, 2), (1, 8), (2, 2, 2, 2, 2, 2)])
def test_borders_give_an_output_for_every_pixel(layers: tuple[int, ...]) -> None:
    """Kernels and poolings in turn; also where the receptive field is little more than the stride."""
    chain = Chain([RarefiedMaxPooling2D(n) if i % 2 else RarefiedConv2D(1, n) for i, n in enumerate(layers)])
    for output_stride in (n for n in range(1, chain.stride + 1) if chain.stride % n == 0):
        before, after = border(chain.receptive_field, output_stride)
        assert min(before, after) >= 0
        assert before + after == chain.receptive_field - output_stride
        image = keras.Input((before + 3 * output_stride + after,) * 2 + (1,))
        assert chain(image, output_stride).shape == (None, 3, 3, 1)


def test_stitched_form_is_exported(tmp_path) -> None:
    for module in ("ai_edge_litert", "onnxruntime", "tensorrt_rtx"):
        pytest.importorskip(module)
    import deploy
    import kseg

    model = _toy(evaluator="stitch", output_stride=2)
    model.spec = kseg.Spec(classes=("red", "green", "blue"))
    image = _image(20, 27)
    for suffix in ("tflite", "engine"):
        deploy.export(model, tmp_path / f"model.{suffix}", size=(20, 27), verify=False)
    for file in ("model.tflite", "model.engine.onnx"):
        runtime = deploy.load(tmp_path / file)
        np.testing.assert_allclose(runtime(image)[0], _logits(model, image), atol=1e-4)
        runtime.close()
