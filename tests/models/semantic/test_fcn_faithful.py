"""The checks that a faithful FCN passes: sizes, offsets, alignment, fixed kernels, staged training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseg.encoders import build
from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, TransposedConv, bilinear_kernel
from kseg.losses import PixelCrossEntropy
from kseg.models import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCNAlexNet, create
from kseg.models.summary import parameters, shapes_only

SMALL: dict[str, Any] = {"num_classes": 3, "width": 0.03, "dropout": 0.0, "head_channels": 16}


def _random_scores(model: keras.Model, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.startswith("score") and layer.weights:
            layer.set_weights([random.normal(0, 0.5, w.shape).astype("float32") for w in layer.weights])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("FCN32s", 134_346_581),
        ("FCN16s", 134_357_354),
        ("FCN8s", 134_362_751),
        ("FCN8sAtOnce", 134_362_751),
        ("FCNAlexNet", 56_954_261),
    ],
)
@pytest.mark.parametrize("padding", ["same", "paper"])
def test_trainable_parameters_are_the_ledgers(name: str, padding: str, count: int) -> None:
    with shapes_only():
        assert parameters(create(name, num_classes=21, padding=padding)) == (count, count)


def test_default_head_has_4096_channels_times_width() -> None:
    model = FCN32s(width=0.125)
    assert [model.get_layer(name).filters for name in ("fc6", "fc7")] == [512, 512]


@pytest.mark.parametrize(
    ("network", "sizes", "offsets"),
    [
        (FCN32s, {"upscore32": 544}, {"logits": 19}),
        (FCN16s, {"upscore2": 34, "score_pool4": 44, "upscore16": 560}, {"score_pool4c": 5, "logits": 27}),
        (
            FCN8s,
            {"upscore2": 34, "upscore_pool4": 70, "score_pool3": 88, "upscore8": 568},
            {"score_pool4c": 5, "score_pool3c": 9, "logits": 31},
        ),
        (FCN8sAtOnce, {"upscore8": 568}, {"score_pool4c": 5, "score_pool3c": 9, "logits": 31}),
        (FCNAlexNet, {"conv1": 173, "pool1": 86, "pool2": 43, "pool5": 21, "upscore32": 543}, {"logits": 18}),
    ],
)
def test_paper_form_at_500_has_the_size_chain(network: Any, sizes: dict, offsets: dict) -> None:
    model = network(input_shape=(500, 500, 3), padding="paper", **SMALL)
    if network is not FCNAlexNet:
        pools = {f"block{n}_pool": size for n, size in enumerate((349, 175, 88, 44, 22), start=1)}
        sizes = {**pools, "block1_conv1": 698, **sizes}
    assert model.get_layer("fc6").output.shape[1:3] == (16, 16)
    for name, size in sizes.items():
        assert model.get_layer(name).output.shape[1:3] == (size, size), name
    for name, offset in offsets.items():
        assert model.get_layer(name).offset == (offset, offset), name
    assert model.output.shape == (None, 500, 500, 3)


def test_shifting_the_image_by_32_shifts_the_paper_output_by_32() -> None:
    keras.utils.set_random_seed(0)
    model = FCN32s(padding="paper", **SMALL)
    _random_scores(model)
    image = np.zeros((1, 256, 256, 3), "float32")
    image[:, 96:128, 96:128] = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    moved = np.roll(image, (32, 32), (1, 2))
    first, second = (np.asarray(model(x)) for x in (image, moved))
    assert np.ptp(first[:, 32:192, 32:192]) > 1e-5
    np.testing.assert_allclose(
        second[:, 64:224, 64:224], first[:, 32:192, 32:192], atol=1e-5 * max(1.0, np.abs(first).max())
    )


def test_enlargements_are_fixed_per_channel_and_sum_to_the_factor_squared() -> None:
    model = FCN8s(padding="paper", **SMALL)
    found = {layer.name: layer for layer in model.layers if isinstance(layer, TransposedConv)}
    assert {name: layer.strides[0] for name, layer in found.items()} == {
        "upscore2": 2,
        "upscore_pool4": 2,
        "upscore8": 8,
    }
    for layer in found.values():
        assert not layer.weights
        factor = layer.strides[0]
        assert bilinear_kernel(layer.kernel_size).sum() == pytest.approx(factor**2)
        # One hot pixel in one channel comes out as the kernel, in that channel only.
        hot = np.zeros((1, 3, 3, 3), "float32")
        hot[0, 1, 1, 1] = 1
        out = np.asarray(layer(hot))[0]
        assert out[..., [0, 2]].max() == 0
        assert out[..., 1].sum() == pytest.approx(factor**2)


def test_learned_enlargement_starts_bilinear_and_the_last_stays_fixed() -> None:
    model = FCN8s(upsampling="learned", encoder="resnet18", **{**SMALL, "width": 0.125})
    learned = [layer.name for layer in model.layers if isinstance(layer, TransposedConv) and layer.weights]
    assert learned == ["upscore2", "upscore_pool4"]
    kernel = model.get_layer("upscore2").get_weights()[0]
    assert kernel.shape == (4, 4, 3)
    np.testing.assert_allclose(kernel[..., 2], bilinear_kernel(4))
    assert FCN32s(upsampling="learned", **SMALL).get_layer("upscore32").weights
    everything = FCN8s(upsampling="learned_all", padding="paper", **SMALL)
    learned = [layer for layer in everything.layers if isinstance(layer, TransposedConv)]
    assert [layer.kernel.shape[0] for layer in learned if layer.weights] == [4, 4, 16]


def test_first_loss_is_the_logarithm_of_the_number_of_classes() -> None:
    model = FCN8s(**SMALL)
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    logits = np.asarray(model(image))
    assert not logits.any()
    masks = np.random.default_rng(1).integers(0, 3, (1, 64, 64)).astype("int32")
    assert float(PixelCrossEntropy(ignore_id=255)(masks, logits)) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize("padding", ["same", "paper"])
def test_16s_started_from_32s_gives_the_output_of_32s(padding: str) -> None:
    keras.utils.set_random_seed(0)
    coarse = FCN32s(padding=padding, **SMALL)
    _random_scores(coarse)
    fine = FCN16s(padding=padding, init_from=coarse, **SMALL)
    image = np.random.default_rng(0).normal(size=(1, 192, 192, 3)).astype("float32")
    first, second = (np.asarray(model(image))[:, 48:144, 48:144] for model in (coarse, fine))
    # Enlarging 2 x and 16 x is not quite enlarging 32 x.
    assert np.abs(first - second).max() < 0.15 * np.ptp(first)
    # What is enlarged is the same.
    scores, fused = (
        np.asarray(keras.Model(model.input, model.get_layer(name).output)(image))
        for model, name in ((coarse, "score_fr"), (fine, "fuse_pool4"))
    )
    twice = np.asarray(coarse_enlargement(padding)(scores))
    np.testing.assert_allclose(fused, twice, atol=1e-6 * np.abs(twice).max())


def coarse_enlargement(padding: str) -> keras.layers.Layer:
    """Twice the size, by the kernel of the paper or by resizing."""
    return TransposedConv(None, 4, 2, "valid") if padding == "paper" else BilinearUpsampling(2)


def test_two_enlargements_of_a_ramp_are_exactly_one_inside() -> None:
    rows, columns = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
    ramp = np.stack([rows - 2 * columns, 3 * columns + 1, rows * 0 + 5], -1)[None].astype("float32")
    at_once = np.asarray(TransposedConv(None, 64, 32)(ramp))
    in_steps = np.asarray(TransposedConv(None, 32, 16)(TransposedConv(None, 4, 2)(ramp)))
    inside = slice(32, -32)
    np.testing.assert_allclose(in_steps[:, inside, inside], at_once[:, inside, inside], atol=1e-4)


def test_8s_started_from_16s_is_16s_before_the_last_enlargement() -> None:
    keras.utils.set_random_seed(0)
    coarse = FCN16s(**SMALL)
    _random_scores(coarse)
    fine = FCN8s(init_from=coarse, **SMALL)
    image = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype("float32")
    scores, fused = (
        np.asarray(keras.Model(model.input, model.get_layer(name).output)(image))
        for model, name in ((coarse, "fuse_pool4"), (fine, "fuse_pool3"))
    )
    np.testing.assert_allclose(fused, np.asarray(BilinearUpsampling(2)(scores)), atol=1e-6)
    assert np.abs(fused).max() > 0


def test_the_whole_chain_keeps_the_learned_enlargements() -> None:
    first = FCN32s(upsampling="learned", **SMALL)
    second = FCN16s(upsampling="learned", init_from=first, **SMALL)
    kernel = second.get_layer("upscore2")
    kernel.set_weights([kernel.get_weights()[0] + 1])
    third = FCN8s(upsampling="learned", init_from=second, **SMALL)
    np.testing.assert_array_equal(third.get_layer("upscore2").get_weights()[0], kernel.get_weights()[0])
    np.testing.assert_allclose(third.get_layer("upscore_pool4").get_weights()[0][..., 0], bilinear_kernel(4))


def test_where_a_network_started_is_not_part_of_the_architecture() -> None:
    coarse = FCN32s(**SMALL)
    assert FCN16s(init_from=coarse, **SMALL).info == FCN16s(**SMALL).info
    assert "init_from" not in FCN16s(init_from=coarse, **SMALL).info.arch_args


def test_what_a_network_cannot_start_from_is_named() -> None:
    with pytest.raises(UsageError, match=r"must be a Keras model, for a file kseg.load\(path\)"):
        FCN16s(init_from="fcn32s.keras", **SMALL)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"fcn32s, has no layer of the name and shape of .*fc6"):
        FCN16s(init_from=FCN32s(**{**SMALL, "head_channels": 8}), **SMALL)
    with pytest.raises(UsageError, match="share no layer"):
        FCN16s(init_from=create("unet", num_classes=3, width=0.125), **SMALL)


def test_ignored_pixels_give_no_gradient() -> None:
    model = FCN8s(**SMALL)
    _random_scores(model)
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    masks = np.full((1, 64, 64), 255, "int32")
    with tf.GradientTape() as tape:
        loss = PixelCrossEntropy(ignore_id=255)(masks, model(image, training=True))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    assert float(loss) == 0
    assert all(not np.any(gradient) for gradient in gradients)


def test_at_once_scales_the_gradient_through_pool3_and_pool4() -> None:
    plain, once = FCN8s(**SMALL), FCN8sAtOnce(**SMALL)
    pooled = {3: np.ones((1, 8, 8, 8), "float32"), 4: np.ones((1, 4, 4, 16), "float32")}
    for level, scale in ((3, 1e-4), (4, 1e-2)):
        name = f"scale_pool{level}"
        assert once.get_layer(f"score_pool{level}").input is once.get_layer(name).output
        assert once.get_layer(name).input is once.get_layer(f"block{level}_pool").output
        assert name not in {layer.name for layer in plain.layers}
        x = tf.constant(pooled[level])
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(once.get_layer(name)(x))
        np.testing.assert_allclose(tape.gradient(total, x), scale * np.ones_like(x), rtol=1e-6)


def test_at_once_scales_the_gradient_of_the_scores() -> None:
    """With scores at zero both networks give the same logits, so what differs is what the pools bring."""
    keras.utils.set_random_seed(0)
    plain = FCN8s(**SMALL)
    once = FCN8sAtOnce(init_from=plain, **SMALL)
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    masks = np.random.default_rng(1).integers(0, 3, (1, 64, 64)).astype("int32")

    def gradient(model: keras.Model, name: str) -> np.ndarray:
        kernel = model.get_layer(name).kernel
        with tf.GradientTape() as tape:
            loss = PixelCrossEntropy(ignore_id=255)(masks, model(image, training=True))
        return np.asarray(tape.gradient(loss, kernel.value))

    for name, scale in (("score_pool3", 1e-4), ("score_pool4", 1e-2), ("score_fr", 1.0)):
        expected = gradient(plain, name)
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(
            gradient(once, name), scale * expected, rtol=1e-4, atol=1e-6 * scale * np.abs(expected).max()
        )


@pytest.mark.parametrize(("encoder", "kernel", "field"), [("vgg16", 7, 404), ("alexnet", 6, 355)])
def test_receptive_field_of_fc7(encoder: str, kernel: int, field: int) -> None:
    size, steps = 1, []
    image = keras.Input((512, 512, 3))
    features = build(encoder, image, first_pad=100, width=0.05)
    model = keras.Model(image, features[32])
    for layer in model.layers:
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
        if window:
            steps.append((window[0], layer.strides[0]))
    steps.append((kernel, 1))
    for window, stride in reversed(steps):
        size = (size - 1) * stride + window
    assert size == field
