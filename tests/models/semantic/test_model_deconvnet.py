"""DeconvNet through the battery, and the checks that a faithful one passes."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery
from keras import layers, ops

from kseg.data import preprocess
from kseg.encoders import normalization
from kseg.errors import UsageError
from kseg.layers import MaxPoolWithSwitches, Unpool
from kseg.models import DeconvNet, transfer
from kseg.models.summary import parameters, shapes_only

TOY: dict[str, Any] = {"num_classes": 3, "width": 0.05, "fc_kernel": 2}
BLOCKS = {5: (512, 512, 512), 4: (512, 512, 256), 3: (256, 256, 128), 2: (128, 64), 1: (64, 64)}


class TestDeconvNet(ModelBattery):
    architecture = "DeconvNet"
    toy: ClassVar = {"width": 0.1, "fc_kernel": 2}
    steps = 80


@pytest.fixture(scope="module")
def full() -> keras.Model:
    """The paper's network at 224 x 224; its 1 GB of weights are not drawn."""
    with shapes_only():
        return DeconvNet(input_shape=(224, 224, 3))


@pytest.fixture(scope="module")
def toy() -> keras.Model:
    """A small network for any size, which no test changes."""
    keras.utils.set_random_seed(0)
    return DeconvNet(**TOY)


def _image(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, height, width, 3)).astype("float32")


def _run(model: keras.Model, image: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(model(image, training=False))


@pytest.mark.parametrize("unpooling", ["switches", "fixed"])
def test_trainable_parameters_are_the_ledgers(unpooling: str) -> None:
    with shapes_only():
        model = DeconvNet(num_classes=21, unpooling=unpooling)
    # 29 normalisations have as many moving statistics as scales and shifts.
    assert parameters(model) == (251_805_653, 251_805_653 + 33_408)


def test_encoder_decoder_and_classifier_have_the_ledgers_shares(full: keras.Model) -> None:
    counts = {layer.name: layer.count_params() for layer in full.layers}
    convolutions = {name: count for name, count in counts.items() if not name.endswith("_bn")}
    encoder = sum(v for k, v in convolutions.items() if k.startswith("block") or k in ("fc6", "fc7"))
    decoder = sum(v for k, v in convolutions.items() if "deconv" in k)
    assert (encoder, decoder, counts["score"]) == (134_260_544, 117_510_336, 1_365)
    assert counts["fc6_deconv"] == 102_760_960


def test_sizes_are_the_papers(full: keras.Model) -> None:
    shape = {layer.name: tuple(layer.output.shape[1:]) for layer in full.layers if layer.name[:5] != "block"}
    assert shape["fc6"] == shape["fc7"] == (1, 1, 4096)
    assert shape["fc6_deconv"] == (7, 7, 512)
    for block, filters in BLOCKS.items():
        size = 224 // 2 ** (block - 1)
        for index, count in enumerate(filters, start=1):
            assert shape[f"deconv{block}_{index}"] == (size, size, count)
    assert shape["logits"] == (224, 224, 21)
    assert f"deconv1_{len(BLOCKS[1]) + 1}" not in shape


def test_29_normalisations_start_at_scale_1_and_shift_0001_and_nothing_is_dropped(
    full: keras.Model, toy: keras.Model
) -> None:
    norms = [layer for layer in full.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == 29
    assert sum(layer.gamma.shape[0] for layer in norms) == 16_704
    assert not [layer for layer in full.layers if "Dropout" in type(layer).__name__]
    convolutions = [layer for layer in full.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 13 + 2 + 13 + 1
    assert all(layer.use_bias for layer in convolutions)
    norm = toy.get_layer("fc6_bn")
    np.testing.assert_array_equal(norm.gamma, np.ones(norm.gamma.shape))
    np.testing.assert_allclose(norm.beta, np.full(norm.beta.shape, 0.001))


def test_every_unpooling_uses_the_switches_of_the_pool_of_its_size(full: keras.Model) -> None:
    for block in BLOCKS:
        pool, unpool = full.get_layer(f"block{block}_pool"), full.get_layer(f"unpool{block}")
        assert isinstance(pool, MaxPoolWithSwitches)
        assert isinstance(unpool, Unpool)
        assert unpool.input[1] is pool.output[1]
        assert unpool.output.shape == pool.input.shape


def test_unpooled_maps_have_a_quarter_of_the_values_where_the_encoder_had_its_maxima(
    toy: keras.Model,
) -> None:
    for block in (1, 3, 5):
        pool, unpool = toy.get_layer(f"block{block}_pool"), toy.get_layer(f"unpool{block}")
        tapped = keras.Model(toy.input, [pool.input, unpool.input[0], unpool.output])
        before, coarse, fine = (ops.convert_to_numpy(x) for x in tapped(_image()))
        _, height, width, channels = coarse.shape
        windows = before.reshape(height, 2, width, 2, channels).transpose(0, 2, 4, 1, 3)
        expected = np.zeros((height, width, channels, 4), "float32")
        place = windows.reshape(height, width, channels, 4).argmax(-1)
        np.put_along_axis(expected, place[..., None], coarse[0][..., None], -1)
        expected = expected.reshape(height, width, channels, 2, 2).transpose(0, 3, 1, 4, 2)
        np.testing.assert_array_equal(fine[0], expected.reshape(fine.shape[1:]))
        assert np.count_nonzero(fine) == np.count_nonzero(coarse)


def test_the_fixed_and_the_soft_twin_share_all_weights_and_give_something_else(toy: keras.Model) -> None:
    twins = [DeconvNet(**TOY, unpooling="fixed"), DeconvNet(**TOY, switch_temperature=0.25)]
    first = _run(toy, _image())
    for twin in twins:
        copied = transfer(toy, twin)
        assert set(copied) == {layer.name for layer in toy.layers if layer.weights}
        for mine, theirs in zip(toy.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert np.abs(_run(twin, _image()) - first).max() > 0.01 * np.ptp(first)


def test_a_stride_1_deconvolution_is_a_convolution_with_the_kernel_turned_around() -> None:
    x = _image(6, 7)
    random = np.random.default_rng(1)
    kernel, bias = random.normal(size=(3, 3, 5, 3)).astype("float32"), random.normal(size=5).astype("float32")
    transposed, ordinary = layers.Conv2DTranspose(5, 3, padding="same"), layers.Conv2D(5, 3, padding="same")
    for layer in (transposed, ordinary):
        layer.build(x.shape)
    transposed.set_weights([kernel, bias])
    ordinary.set_weights([kernel[::-1, ::-1].transpose(0, 1, 3, 2), bias])
    np.testing.assert_allclose(
        ops.convert_to_numpy(ordinary(x)), ops.convert_to_numpy(transposed(x)), atol=1e-5
    )


def test_an_image_smaller_than_the_bottleneck_is_padded_up_to_it(toy: keras.Model) -> None:
    known = DeconvNet(input_shape=(40, 130, 3), **TOY)
    known.set_weights(toy.get_weights())
    assert known.get_layer("pad").output.shape == (None, 64, 160, 3)
    image = _image(40, 130)
    padded = np.pad(image, ((0, 0), (0, 24), (0, 30), (0, 0)))
    expected = _run(toy, padded)[:, :40, :130]
    for model in (toy, known):
        np.testing.assert_allclose(_run(model, image), expected, atol=1e-5)


def test_vgg16s_weights_start_the_encoder(toy: keras.Model, tmp_path: Any) -> None:
    toy.save(tmp_path / "first.keras")
    model = DeconvNet(**TOY, weights=str(tmp_path / "first.keras"))
    for layer in toy.layers:
        if isinstance(layer, layers.Conv2D):
            same = np.array_equal(layer.get_weights()[0], model.get_layer(layer.name).get_weights()[0])
            assert same == layer.name.startswith("block"), layer.name


def test_normalisation_follows_the_encoder() -> None:
    from kseg.models import describe

    encoder = describe("deconv-net").default_encoder
    image = np.full((1, 1, 3), 100, "uint8")
    caffe = preprocess(image, normalization(encoder, "imagenet"))
    np.testing.assert_allclose(caffe[0, 0], [100 - 103.939, 100 - 116.779, 100 - 123.68], atol=1e-3)


def test_gaussian_initializer_is_the_releases() -> None:
    keras.utils.set_random_seed(0)
    kernel = DeconvNet(**TOY, initializer="gaussian").get_layer("fc6_deconv").get_weights()[0]
    assert kernel.std() == pytest.approx(0.01, rel=0.05)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UsageError, match=r"`unpooling` must be one of .* Did you mean 'switches'"):
        DeconvNet(unpooling="switch")
    with pytest.raises(UsageError, match="`encoder` must be 'vgg16'"):
        DeconvNet(encoder="resnet18")
    with pytest.raises(UsageError, match="fixed unpooling has no switches"):
        DeconvNet(unpooling="fixed", switch_temperature=0.5)
    for value in (0, -1.0, "soft", True):
        with pytest.raises(UsageError, match="`switch_temperature` must be a positive number"):
            DeconvNet(switch_temperature=value)
    for value in (0, 16, 3.0):
        with pytest.raises(UsageError, match="`fc_kernel` must be a whole number >= 1 and <= 15"):
            DeconvNet(fc_kernel=value)
