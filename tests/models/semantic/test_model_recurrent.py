"""rCNN through the battery, and the sheet's checks: patches, counts, recurrence, resolution, gradients."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery
from keras import ops

from kseg.errors import UsageError
from kseg.losses import PixelCrossEntropy
from kseg.models import RecurrentCNN, forms
from kseg.models.summary import parameters, shapes_only
from kseg.semantic.inference.patch_by_patch import sliding_window


class TestRecurrentCNN(ModelBattery):
    architecture = "RecurrentCNN"
    toy: ClassVar = {"variant": "rcnn3", "instances": 2, "width": 0.3, "output_stride": 2}
    rate = 1e-2
    steps = 40


def _toy(**arguments) -> keras.Model:
    keras.utils.set_random_seed(3)
    return RecurrentCNN(**{"num_classes": 3, "features": (4, 5), **arguments})


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(1, height, width, 3)).astype("float32")


def _outputs(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    found = forms.with_heads(model)(image)
    found = found if isinstance(found, dict) else {forms.MAIN: found}
    return {name: ops.convert_to_numpy(values) for name, values in found.items()}


@pytest.mark.parametrize(
    ("variant", "sizes"), [("rcnn2", (25, 121, 505)), ("rcnn3", (23, 67, 155))], ids=["rcnn2", "rcnn3"]
)
def test_patch_sizes(variant: str, sizes: tuple[int, ...]) -> None:
    for instances, size in enumerate(sizes, 1):
        with shapes_only():
            form = forms.patch_form(_toy(variant=variant, instances=instances))
        assert form.size == size
        assert form.model.input_shape == (None, size, size, 3)
        if instances == 1:
            assert form.model.output_shape == (None, 1, 1, 3)
        else:
            names = ["logits", *(f"instance{index}" for index in range(1, instances))]
            assert list(form.model.output) == names
            assert {output.shape for output in form.model.outputs} == {(None, 1, 1, 3)}


def test_parameters_do_not_depend_on_the_instances() -> None:
    with shapes_only():
        counts = {
            parameters(RecurrentCNN(num_classes=8, variant=variant, instances=instances))
            for variant in ("rcnn2", "rcnn3")
            for instances in (None, 1, 4)
        }
        assert counts == {(98_083, 98_083)}
        assert parameters(RecurrentCNN(num_classes=33))[0] == 139_358
        assert parameters(RecurrentCNN(num_classes=33, features=(50, 50)))[0] == 276_983


@pytest.mark.parametrize("variant", ["rcnn2", "rcnn3"])
def test_published_number_of_instances_is_the_default(variant: str) -> None:
    heads = forms.heads(_toy(variant=variant))
    assert [head.name for head in heads] == ["instance1", "instance2"][: {"rcnn2": 1, "rcnn3": 2}[variant]]
    assert all(head.output.shape == (None, None, None, 3) for head in heads)


def test_instance_one_is_the_plain_net_on_the_image_and_zeros() -> None:
    """Its answers are those of a net whose first kernel knows no label planes."""
    model = _toy(instances=1)
    image = _image(30, 33)
    plain = ops.convert_to_numpy(model.get_layer("border")(image))
    kernel, bias = model.get_layer("conv1").get_weights()
    x = ops.conv(plain, kernel[:, :, 3:], padding="valid") + bias
    x = ops.tanh(model.get_layer("pool1")(x, dense=True))
    x = ops.tanh(model.get_layer("pool2")(model.get_layer("conv2")(x, rate=2), rate=2, dense=True))
    expected = ops.convert_to_numpy(model.get_layer("score")(x, rate=4))
    np.testing.assert_allclose(ops.convert_to_numpy(model(image)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"variant": "rcnn2"},
        {"variant": "rcnn3", "last_tanh": False},
        {"variant": "rcnn3", "instances": 2, "feedback": "softmax"},
    ],
    ids=str,
)
def test_full_resolution_gives_every_instances_answers_on_patches(arguments: dict) -> None:
    image = _image(13, 18)
    dense, merged = _toy(**arguments), _toy(evaluator="stitch", **arguments)
    pixels = [(0, 0), (12, 17), (5, 3), (6, 16), (11, 0)]
    form = forms.patch_form(dense)
    growing, shifted = _outputs(dense, image), _outputs(merged, image)
    assert len(growing) == len(forms.heads(dense)) + 1 > 1
    for name, values in growing.items():
        naive = sliding_window(form, image[0], pixels=pixels, head=name)
        assert np.ptp(naive) > 0.05
        np.testing.assert_allclose([values[0, y, x] for y, x in pixels], naive, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(shifted[name], values, atol=1e-5, err_msg=name)


def test_an_earlier_instance_answers_as_the_net_that_ends_there() -> None:
    """Each composition is trained on its own patch size: the centre of the larger patch is that patch."""
    three, two = _toy(variant="rcnn3"), _toy(variant="rcnn3", instances=2)
    two.set_weights(three.get_weights())
    image = _image(40, 35)
    np.testing.assert_allclose(_outputs(three, image)["instance2"], _outputs(two, image)["logits"], atol=1e-5)
    patch = _image(155, 155)
    whole = forms.patch_form(three).model(patch)["instance2"]
    middle = forms.patch_form(two).model(patch[:, 44:-44, 44:-44])["logits"]
    np.testing.assert_allclose(ops.convert_to_numpy(whole), ops.convert_to_numpy(middle), atol=1e-5)


@pytest.mark.parametrize("output_stride", [2, 4])
def test_half_resolution_is_every_other_answer_and_shift_and_merge_agrees(output_stride: int) -> None:
    image = _image(19, 22)
    half = _toy(variant="rcnn3", output_stride=output_stride)
    merged = _toy(variant="rcnn3", output_stride=output_stride, evaluator="stitch")
    for name, values in _outputs(half, image).items():
        np.testing.assert_allclose(values, _outputs(merged, image)[name], atol=1e-5, err_msg=name)
    full = ops.convert_to_numpy(_toy(variant="rcnn3")(image))
    scores = ops.convert_to_numpy(keras.Model(half.input, half.get_layer("upsample_logits").input)(image))
    first = (output_stride - 1) // 2
    expected = full[:, first::output_stride, first::output_stride]
    np.testing.assert_allclose(scores[:, : expected.shape[1], : expected.shape[2]], expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["rcnn2", "rcnn3"])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_image_of_the_second_instance_has_the_size_of_the_firsts_answers(variant, output_stride) -> None:
    model = _toy(input_shape=(40, 52, 3), variant=variant, output_stride=output_stride)
    image, labels = model.get_layer("image2").output, model.get_layer("labels_and_image2").input[0]
    assert image.shape == labels.shape == (None, *labels.shape[1:3], 3)
    patch = forms.patch_form(model).model
    side = {"rcnn2": 25, "rcnn3": 67}[variant]
    assert patch.get_layer("labels_and_image2").input[0].shape == (None, side, side, 3)


def test_both_applications_reach_the_first_kernel() -> None:
    """The gradient of the second instance's loss is more than what comes through its own application."""
    import tensorflow as tf

    form = forms.patch_form(_toy(variant="rcnn3", instances=2))
    kernel = form.model.get_layer("conv1").kernel
    image, label = _image(67, 67), np.zeros((1, 1, 1), "int32")

    def f(labels, image):
        x = ops.concatenate([labels, image], axis=-1)
        for name in ("conv1", "pool1", "tanh1", "conv2", "tanh2", "score"):
            x = form.model.get_layer(name)(x)
        return x

    def gradient(cut: bool) -> np.ndarray:
        with tf.GradientTape() as tape:
            labels = f(np.zeros((1, 67, 67, 3), "float32"), image)
            scores = f(tf.stop_gradient(labels) if cut else labels, image[:, 11:-11:2, 11:-11:2])
            loss = PixelCrossEntropy()(label, scores)
        np.testing.assert_allclose(scores, form.model(image)["logits"], atol=1e-5)
        return np.asarray(tape.gradient(loss, kernel.value))

    whole, second = gradient(cut=False), gradient(cut=True)
    assert np.abs(second).max() > 1e-5
    assert np.abs(whole - second).max() > 1e-5
    assert np.abs((whole - second)[:, :, :3]).max() == 0, "the first instance sees zeros as label planes"


def test_more_instances_take_the_weights_of_fewer() -> None:
    two, four = _toy(variant="rcnn3", instances=2), _toy(variant="rcnn3", instances=4, output_stride=8)
    assert [weight.path for weight in four.weights] == [weight.path for weight in two.weights]
    four.set_weights(two.get_weights())
    assert np.isfinite(ops.convert_to_numpy(four(_image(20, 20)))).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"variant": "rcnn4"}, r"`variant` must be one of rcnn2, rcnn3"),
        ({"instances": 0}, "`instances` must be a positive integer"),
        ({"feedback": "argmax"}, "`feedback` must be one of"),
        ({"variant": "rcnn3", "output_stride": 16}, "one of 1, 2, 4, 8"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RecurrentCNN(**wrong)


def test_the_second_instance_is_right_where_the_first_cannot_see_enough() -> None:
    """The sheet's check: trained with both losses, two instances beat one.

    A spot in the middle names the class of the whole image; patches of 23 pixels often miss it, of 67 never.
    """
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    classes = random.integers(0, 2, 96)
    images = random.normal(0, 0.1, (96, 40, 40, 3)).astype("float32")
    for image, label in zip(images, classes, strict=True):
        image[16:24, 16:24, label] += 1.5
    masks = np.tile(classes[:, None, None], (1, 40, 40)).astype("int32")
    model = forms.with_heads(
        RecurrentCNN(num_classes=2, variant="rcnn3", instances=2, features=(6, 8), output_stride=4)
    )
    losses = {name: PixelCrossEntropy(ignore_id=255) for name in model.output}
    model.compile(keras.optimizers.Adam(0.01), losses)
    model.fit(images[:64], dict.fromkeys(model.output, masks[:64]), batch_size=8, epochs=12, verbose=0)
    found = model.predict(images[64:], verbose=0)
    accuracy = {name: (values.argmax(-1) == masks[64:]).mean() for name, values in found.items()}
    assert accuracy["instance1"] < 0.92
    assert accuracy["logits"] > accuracy["instance1"] + 0.05
