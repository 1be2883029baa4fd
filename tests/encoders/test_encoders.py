"""Encoders: parameter ledger, features by stride, Caffe's sizes, options, weights, errors."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kseg import encoders
from kseg.encoders import weights as encoder_weights
from kseg.errors import DataError, UsageError
from kseg.layers import BatchNormalization
from kseg.models.summary import shapes_only

CHEAP = {
    "vgg16": {"width": 0.125},
    "alexnet": {"width": 0.25},
    "resnet18": {"width": 0.125},
    "mobilenetv3small": {"width": 0.5},
}


def _model(name: str, shape: tuple = (None, None, 3), **arguments) -> tuple[keras.Model, dict]:
    inputs = keras.Input(shape)
    features = encoders.build(name, inputs, **arguments)
    return keras.Model(inputs, list(features.values())), features


def _trainable(model: keras.Model) -> int:
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.mark.parametrize(
    ("name", "count", "channels"),
    [
        ("vgg16", 14_714_688, {1: 64, 2: 64, 4: 128, 8: 256, 16: 512, 32: 512}),
        ("alexnet", 2_334_080, {4: 96, 8: 96, 16: 256, 32: 256}),
        ("resnet18", 11_176_512, {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}),
        ("resnet50", 23_534_592, {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}),
        ("mobilenetv3", 2_971_952, {2: 16, 4: 24, 8: 40, 16: 112, 32: 960}),
        ("efficientnetv2b0", 5_610_384, {2: 16, 4: 32, 8: 48, 16: 112, 32: 192}),
    ],
)
def test_ledger_and_feature_strides(name, count, channels):
    with shapes_only():
        model, features = _model(name)
        shapes = model.compute_output_shape((1, 64, 96, 3))
    assert _trainable(model) == count
    assert {stride: feature.shape[-1] for stride, feature in features.items()} == channels
    assert [shape[1:3] for shape in shapes] == [(64 // stride, 96 // stride) for stride in features]


def test_fcn_alexnet_ledger():
    _, features = _model("alexnet")
    classifier = 6 * 6 * features[32].shape[-1] * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 21 + 21
    assert _trainable(_model("alexnet")[0]) + classifier == 56_954_261


def test_lraspp_features_at_output_stride_16():
    with shapes_only():
        model, features = _model("mobilenetv3", output_stride=16)
        assert model.compute_output_shape((1, 64, 96, 3))[-1][1:3] == (4, 6)
    assert list(features) == [2, 4, 8, 16]
    assert (features[8].shape[-1], features[16].shape[-1]) == (40, 960)
    head = 960 * 128 + 2 * 128 + 960 * 128 + 40 * 21 + 21 + 128 * 21 + 21
    assert _trainable(model) + head == 3_221_538
    dilated = {layer.name for layer in model.layers if getattr(layer, "dilation_rate", (1, 1)) == (2, 2)}
    assert dilated == {f"expanded_conv_{block}_depthwise" for block in (12, 13, 14)}


@pytest.mark.parametrize(("output_stride", "last"), [(8, 8)])
def test_dilated_resnet_keeps_its_weights(output_stride, last):
    with shapes_only():
        model, features = _model("resnet50", output_stride=output_stride)
        assert model.compute_output_shape((1, 64, 64, 3))[-1][1] == last
    assert max(features) == output_stride
    assert features[output_stride].shape[-1] == 2048
    assert _trainable(model) == 23_534_592


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vgg16", {1: 698, 2: 349, 4: 175, 8: 88, 16: 44, 32: 22}),
        ("alexnet", {4: 173, 8: 86, 16: 43, 32: 21}),
    ],
)
def test_paper_form_has_caffes_sizes_on_500_pixels(name, sizes):
    model, features = _model(name, (500, 500, 3), first_pad=100, width=0.125)
    assert {stride: feature.shape[1] for stride, feature in features.items()} == sizes
    unknown, _ = _model(name, first_pad=100, width=0.125)
    unknown.set_weights(model.get_weights())
    x = np.zeros((1, 52, 84, 3), "float32")
    for known, free in zip(
        _model(name, (52, 84, 3), first_pad=100, width=0.125)[0].outputs, unknown(x), strict=True
    ):
        assert tuple(known.shape[1:]) == tuple(free.shape[1:])


def test_vgg_taps():
    _, pools = _model("vgg16", (64, 64, 3), width=0.125)
    _, convolutions = _model("vgg16", (64, 64, 3), width=0.125, taps="conv")
    assert [f.shape[1] for f in pools.values()] == [f.shape[1] for f in convolutions.values()]
    assert [f.shape[-1] for f in pools.values()] == [8, 8, 16, 32, 64, 64]
    assert [f.shape[-1] for f in convolutions.values()] == [8, 16, 32, 64, 64, 64]


def test_resnet18_stems_and_channels():
    model, features = _model("resnet18", stem="conv3", channels=[64, 128, 192, 256], width=0.5)
    assert [f.shape[-1] for f in features.values()] == [16, 32, 64, 96, 128]
    shapes = model.compute_output_shape((1, 64, 32, 3))
    assert [s[1] for s in shapes] == [32, 16, 8, 4, 2]


@pytest.mark.parametrize("name", CHEAP)
def test_saved_model_gives_the_same_features(name, tmp_path):
    model, _ = _model(name, **CHEAP[name])
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(1, 64, 32, 3)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for a, b in zip(model(x), loaded(x), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


# MobileNetV3's gradients are looked at in the battery of LR-ASPP.
@pytest.mark.parametrize("name", ["vgg16", "alexnet", "resnet18"])
def test_every_weight_gets_a_gradient_through_the_deepest_feature(name):
    model, features = _model(name, (32, 32, 3), **CHEAP[name])
    deep = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(list(features.values())[-1]))
    before = deep.get_weights()
    deep.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    x = np.random.default_rng(1).normal(size=(4, 32, 32, 3)).astype("float32")
    history = deep.fit(x, np.ones((4, deep.output_shape[-1]), "float32"), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    kernels = [
        (w.path, old, new)
        for w, old, new in zip(deep.weights, before, deep.get_weights(), strict=True)
        if "kernel" in w.path
    ]
    assert [path for path, old, new in kernels if np.array_equal(old, new)] == []


def test_two_encoders_in_one_network():
    inputs = keras.Input((32, 32, 3))
    left = encoders.build("resnet18", inputs, width=0.125, prefix="left_")
    right = encoders.build("resnet18", inputs, width=0.125, prefix="right_")
    model = keras.Model(inputs, [left[32], right[32]])
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def test_batch_normalization_is_ours_and_quick_from_scratch():
    model, _ = _model("mobilenetv3small", width=0.5)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert all(isinstance(layer, BatchNormalization) and layer.momentum == 0.9 for layer in norms)


# ---- weights ----


def _random_weights(model: keras.Model) -> None:
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(scale=0.05, size=w.shape).astype("float32") ** 2 for w in model.weights])


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_vgg16_takes_the_files_of_keras_applications(tmp_path, suffix):
    published = keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))
    _random_weights(published)
    path = tmp_path / f"vgg16{suffix}"
    published.save_weights(path) if suffix == ".weights.h5" else published.save(path)
    model, _ = _model("vgg16", weights=str(path))
    x = np.random.default_rng(6).normal(size=(1, 32, 64, 3)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)[-1]), ops.convert_to_numpy(published(x)), rtol=1e-4, atol=1e-6
    )
    paper, _ = _model("vgg16", weights=path, first_pad=100)
    kernel = ops.convert_to_numpy(published.get_layer("block1_conv1").kernel)
    np.testing.assert_array_equal(ops.convert_to_numpy(paper.get_layer("block1_conv1").kernel), kernel)


def test_mobilenetv3_takes_the_files_of_keras_applications(tmp_path):
    published = keras.applications.MobileNetV3Small(
        include_top=False,
        weights=None,
        alpha=0.75,
        input_shape=(64, 64, 3),
        include_preprocessing=False,
    )
    _random_weights(published)
    published.save_weights(tmp_path / "small.weights.h5")
    model, _ = _model("mobilenetv3small", weights=tmp_path / "small.weights.h5", width=0.75)
    x = np.random.default_rng(6).normal(size=(1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)[-1]), ops.convert_to_numpy(published(x)), rtol=1e-4, atol=1e-6
    )
    momenta = {layer.momentum for layer in model.layers if isinstance(layer, BatchNormalization)}
    assert momenta == {0.999}


def test_weights_pass_from_a_trained_network_to_another(tmp_path):
    inputs = keras.Input((None, None, 3))
    features = encoders.build("resnet18", inputs, width=0.125)
    trained = keras.Model(inputs, keras.layers.Conv2D(5, 1, name="score")(features[32]))
    _random_weights(trained)
    trained.save(tmp_path / "trained.keras")
    model, _ = _model("resnet18", weights=tmp_path / "trained.keras", width=0.125, prefix="rgb_")
    for name in ("conv1_conv", "conv5_block2_2_bn"):
        for mine, theirs in zip(
            model.get_layer("rgb_" + name).get_weights(), trained.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_own_encoder_weights_file(tmp_path):
    source, _ = _model("alexnet", width=0.25)
    source.save_weights(tmp_path / "alexnet.weights.h5")
    model, _ = _model("alexnet", width=0.25, weights=tmp_path / "alexnet.weights.h5")
    for mine, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_that_do_not_fit_are_one_line(tmp_path):
    x = keras.Input((None, None, 3))
    with pytest.raises(DataError, match="not found"):
        encoders.build("resnet18", x, weights=tmp_path / "absent.h5")
    (tmp_path / "broken.weights.h5").write_bytes(b"not a weights file")
    with pytest.raises(DataError, match="does not fit"):
        encoders.build("resnet18", x, width=0.125, weights=tmp_path / "broken.weights.h5")
    (tmp_path / "broken.keras").write_bytes(b"not a model")
    with pytest.raises(DataError, match="cannot be read"):
        encoders.build("resnet18", x, width=0.125, weights=tmp_path / "broken.keras")
    other, _ = _model("resnet18", width=0.25)
    other.save(tmp_path / "other.keras")
    with pytest.raises(DataError, match="conv1_conv") as caught:
        encoders.build("resnet18", x, width=0.125, weights=tmp_path / "other.keras")
    assert "\n" not in str(caught.value)


def test_a_failed_download_is_one_line(monkeypatch):
    def no_network(*arguments, **kwargs):
        raise Exception("URL fetch failure on https://example.invalid/x.h5:\n None -- no route")

    monkeypatch.setattr(encoder_weights, "base_model", no_network)
    with pytest.raises(DataError, match="URL fetch failure") as caught:
        encoders.build("vgg16", keras.Input((None, None, 3)), weights="imagenet")
    assert "\n" not in str(caught.value)


# ---- names, options, normalisation ----


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("VGG-16", "vgg16"),
        ("MobileNet_V3", "mobilenetv3"),
        ("MobileNetV3Large", "mobilenetv3"),
        ("EfficientNetV2", "efficientnetv2b0"),
        ("efficientnet-v2-s", "efficientnetv2s"),
        ("CaffeNet", "alexnet"),
        ("ResNet 18", "resnet18"),
    ],
)
def test_names_are_matched_freely(given, meant):
    assert encoders.resolve(given) == meant
    assert meant in encoders.names()


def test_unknown_name_option_width_and_input():
    x = keras.Input((None, None, 3))
    with pytest.raises(UsageError, match="Did you mean 'resnet50'"):
        encoders.resolve("resnet5")
    with pytest.raises(UsageError, match="Did you mean 'first_pad'"):
        encoders.build("vgg16", x, firstpad=100)
    with pytest.raises(UsageError, match=r"one width.*resnet18"):
        encoders.build("resnet50", x, width=0.5)
    with pytest.raises(UsageError, match="positive"):
        encoders.build("resnet18", x, width=0)
    with pytest.raises(UsageError, match=r"width=1\.0"):
        encoders.build("vgg16", x, width=0.5, weights="imagenet")
    with pytest.raises(UsageError, match="no 'imagenet' weights"):
        encoders.build("resnet18", x, weights="imagenet")
    with pytest.raises(UsageError, match="shape"):
        encoders.build("resnet18", keras.Input((None, None, 4)))
    with pytest.raises(UsageError, match="output_stride"):
        encoders.build("mobilenetv3", x, output_stride=4)
    with pytest.raises(UsageError, match="taps"):
        encoders.build("vgg16", x, taps="relu")
    with pytest.raises(UsageError, match="stem"):
        encoders.build("resnet18", x, stem="conv5")


@pytest.mark.parametrize(("at_most", "stride_1"), [(32, False), (16, False), (8, True)])
@pytest.mark.parametrize(
    "name",
    ["vgg16", "alexnet", "resnet18", "resnet50", "mobilenetv3", "efficientnetv2b0", "efficientnetlite0"],
)
def test_a_decoder_gets_what_it_asks_for_from_every_kind_of_encoder(name, at_most, stride_1):
    image = keras.Input((None, None, 3))
    with shapes_only():
        features = encoders.features(name, image, at_most=at_most, stride_1=stride_1)
        model = keras.Model(image, list(features.values()))
        shapes = model.compute_output_shape((1, 45, 61, 3))
    deepest = max(features)
    least = {"resnet50": 8, "mobilenetv3": 16, "efficientnetlite0": 16}.get(name, 32)
    assert deepest == max(least, at_most)
    assert (1 in features) == (stride_1 and name == "vgg16")
    assert model.get_layer("pad").stride == (deepest, deepest)
    padded = [-(-side // deepest) * deepest for side in (45, 61)]
    assert [shape[1:3] for shape in shapes] == [
        (padded[0] // stride, padded[1] // stride) for stride in features
    ]


def test_a_decoder_that_goes_down_to_stride_1_gets_vggs_convolutions():
    image = keras.Input((64, 64, 3))
    found = encoders.features("vgg16", image, stride_1=True, width=0.125)
    names = {stride: feature._keras_history.operation.name for stride, feature in found.items()}
    assert names == {
        **{2 ** (block - 1): f"block{block}_conv{count}" for block, count in enumerate((2, 2, 3, 3, 3), 1)},
        32: "block5_pool",
    }
    found = encoders.features("vgg16", image, width=0.125)
    names = {stride: feature._keras_history.operation.name for stride, feature in found.items()}
    assert names == {2**block: f"block{block}_pool" for block in range(1, 6)}


@pytest.mark.parametrize(
    ("name", "module", "mode_model"),
    [
        ("vgg16", keras.applications.vgg16, None),
        ("resnet50", keras.applications.resnet, None),
        ("mobilenetv3", None, "MobileNetV3Large"),
        ("efficientnetv2b0", None, "EfficientNetV2B0"),
        ("efficientnetv2s", None, "EfficientNetV2S"),
    ],
)
def test_normalization_is_what_keras_applies(name, module, mode_model):
    """Against Keras' own preprocessing function, or the preprocessing layers inside its model."""
    given = encoders.normalization(name, "imagenet")
    image = np.random.default_rng(7).integers(0, 256, (1, 4, 4, 3)).astype("float32")
    channels = image[..., ::-1] if given.order == "bgr" else image
    ours = (channels - np.array(given.mean, "float32")) / np.array(given.std, "float32")
    if module is not None:
        theirs = module.preprocess_input(image.copy())
    else:
        model = getattr(keras.applications, mode_model)(
            include_top=False, weights=None, input_shape=(32, 32, 3), include_preprocessing=True
        )
        theirs = image
        for layer in model.layers[1:3]:
            if type(layer).__name__ in ("Rescaling", "Normalization"):
                theirs = ops.convert_to_numpy(layer(theirs))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    scratch = encoders.normalization(name, None)
    assert (scratch.order, scratch.mean, scratch.std) == ("rgb", (127.5,) * 3, (127.5,) * 3)
