"""Fully convolutional networks: FCN-32s, 16s, 8s, 8s-at-once and FCN-AlexNet.

Two forms over the same weights. `padding="same"`: the image is padded to the stride, every convolution is
"same", and all stages are half-pixel aligned. `padding="paper"`: the image sees a border of 100 zeros,
fc6 is "valid", and what comes back is cropped at the offsets of the authors' release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kseg import encoders
from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, CropLike, FixedScale, PadToStride, TransposedConv
from kseg.models.blocks import channels, conv_bn_relu, image_input
from kseg.models.registry import check_choice, register

PAPER = "Long, Shelhamer, Darrell, Fully Convolutional Networks, CVPR 2015 and PAMI 2016"
PADDINGS = ("same", "paper")
UPSAMPLINGS = ("fixed", "learned")
BORDER = 100
FC6_KERNEL = {"vgg16": 7, "alexnet": 6}
FC_CHANNELS = 4096
THIN_HEAD = 512  # over encoders that are batch-normalised and deep enough without fc6 and fc7
# Strides of the scored maps -> crop offset of each pool's score, and of the last enlargement.
POOL_OFFSET = {16: 5, 8: 9}
LAST_OFFSET = {32: 19, 16: 27, 8: 31}
ALEXNET_OFFSET, ALEXNET_KERNEL = 18, 63
AT_ONCE_SCALES = {16: 1e-2, 8: 1e-4}


@dataclass(frozen=True)
class _Form:
    """The choices that every layer of one network depends on."""

    network: str
    num_classes: int
    encoder: str
    padding: str
    upsampling: str

    @property
    def is_paper(self) -> bool:
        return self.padding == "paper"

    @property
    def has_fc(self) -> bool:
        return self.encoder in FC6_KERNEL

    def check(self) -> None:
        """Raise a UsageError for choices that exclude each other."""
        check_choice(self.network, "padding", self.padding, PADDINGS)
        check_choice(self.network, "upsampling", self.upsampling, UPSAMPLINGS)
        if self.is_paper and not self.has_fc:
            raise UsageError(
                f"{self.network}: padding='paper' is defined for the encoders vgg16 and alexnet. "
                f"Received: encoder={self.encoder!r}. Use padding='same'."
            )
        if self.is_paper and self.encoder == "alexnet" and self.network not in ("FCN32s", "FCNAlexNet"):
            raise UsageError(
                f"{self.network}: the paper has no skips over AlexNet. Received: encoder='alexnet', "
                "padding='paper'. Use FCNAlexNet, or padding='same'."
            )


def _score(form: _Form, x: Any, name: str) -> Any:
    """1x1 convolution to classes that starts at zero, so that a new skip changes nothing at first."""
    return layers.Conv2D(form.num_classes, 1, kernel_initializer="zeros", dtype="float32", name=name)(x)


def _enlarge(form: _Form, x: Any, factor: int, name: str, *, last: bool, kernel: int | None = None) -> Any:
    """Bilinear enlargement, fixed or learned from there; the last of several stays fixed, as in the paper."""
    learned = form.upsampling == "learned" and not last
    if not form.is_paper and not learned:
        return BilinearUpsampling(factor, dtype="float32", name=name)(x)
    return TransposedConv(
        kernel_size=kernel or 2 * factor,
        strides=factor,
        padding="valid" if form.is_paper else "same",
        learnable=learned,
        dtype="float32",
        name=name,
    )(x)


def _head(form: _Form, x: Any, count: int, dropout: float) -> Any:
    """fc6 and fc7 as convolutions, or one thin 1x1 convolution over a batch-normalised encoder."""
    if not form.has_fc:
        x = conv_bn_relu(x, count, 1, name="fc6")
        return layers.Dropout(dropout, name="fc6_dropout")(x) if dropout else x
    for name, kernel in (("fc6", FC6_KERNEL[form.encoder]), ("fc7", 1)):
        padding = "valid" if form.is_paper else "same"
        x = layers.Conv2D(
            count,
            kernel,
            padding=padding,
            activation="relu",
            kernel_initializer="he_uniform",
            name=name,
        )(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return x


def _features(form: _Form, image: Any, weights: str | None, width: float) -> dict[int, Any]:
    if form.is_paper:
        return encoders.build(form.encoder, image, weights=weights, width=width, first_pad=BORDER)
    return encoders.build(form.encoder, PadToStride(32, name="pad")(image), weights=weights, width=width)


def _fuse(form: _Form, x: Any, features: dict[int, Any], finest: int, scales: dict[int, float]) -> Any:
    """Enlarge the coarse scores twice per step and add the scores of the next finer pool."""
    stride = 32
    while stride > finest:
        stride //= 2
        level = {16: 4, 8: 3}[stride]
        upscore = "upscore2" if stride == 16 else "upscore_pool4"
        x = _enlarge(form, x, 2, upscore, last=False)
        pool = features[stride]
        if scales.get(stride, 1.0) != 1.0:
            pool = FixedScale(scales[stride], dtype="float32", name=f"scale_pool{level}")(pool)
        skip = _score(form, pool, f"score_pool{level}")
        if form.is_paper:
            skip = CropLike(POOL_OFFSET[stride], dtype="float32", name=f"score_pool{level}c")([skip, x])
        x = layers.Add(dtype="float32", name=f"fuse_pool{level}")([x, skip])
    return x


def _fcn(
    network: str,
    finest: int,
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    encoder: str,
    weights: str | None,
    width: float,
    dropout: float,
    padding: str,
    upsampling: str,
    head_channels: int | None,
    name: str | None,
    scales: dict[int, float] | None = None,
) -> keras.Model:
    """Build the member of the family that is scored down to stride `finest`."""
    form = _Form(network, num_classes, encoders.resolve(encoder), padding, upsampling)
    form.check()
    image = image_input(input_shape)
    features = _features(form, image, weights, width)
    count = head_channels or channels(FC_CHANNELS if form.has_fc else THIN_HEAD, width)
    x = _score(form, _head(form, features[32], count, dropout), "score_fr")
    x = _fuse(form, x, features, finest, scales or {})
    alexnet = form.is_paper and form.encoder == "alexnet"
    kernel = ALEXNET_KERNEL if alexnet else 2 * finest
    x = _enlarge(form, x, finest, f"upscore{finest}", last=finest < 32, kernel=kernel)
    offset = (ALEXNET_OFFSET if alexnet else LAST_OFFSET[finest]) if form.is_paper else 0
    logits = CropLike(offset, dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or network.lower())


@register(paper=PAPER, output_stride=32, aliases=("fcn-32",))
def FCN32s(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "vgg16",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    upsampling: str = "fixed",
    head_channels: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN-32s: scores at stride 32, enlarged in one step. 134,346,581 parameters over VGG-16.

    Args: those of `FCN8s`.

    Returns:
        As `FCN8s`.
    """
    return _fcn(
        "FCN32s",
        32,
        input_shape,
        num_classes,
        encoder,
        weights,
        width,
        dropout,
        padding,
        upsampling,
        head_channels,
        name,
    )


@register(paper=PAPER, output_stride=16, aliases=("fcn-16",))
def FCN16s(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "vgg16",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    upsampling: str = "fixed",
    head_channels: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN-16s: the scores of pool4 are added at stride 16. 134,357,354 parameters over VGG-16.

    Args: those of `FCN8s`.

    Returns:
        As `FCN8s`.
    """
    return _fcn(
        "FCN16s",
        16,
        input_shape,
        num_classes,
        encoder,
        weights,
        width,
        dropout,
        padding,
        upsampling,
        head_channels,
        name,
    )


@register(paper=PAPER, output_stride=8, aliases=("fcn", "fcn-8"))
def FCN8s(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "vgg16",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    upsampling: str = "fixed",
    head_channels: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN-8s: the scores of pool4 and pool3 are added at strides 16 and 8. 134,362,751 parameters.

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        encoder: a name of `kseg.encoders`. VGG-16 and AlexNet are followed by fc6 and fc7; the others, which
            are batch-normalised, by one thin 1x1 convolution.
        weights: of the encoder: None, `"imagenet"` or a path.
        width: factor on all channel counts, where the encoder has one.
        dropout: share of the head's features that is dropped in training, in [0, 1).
        padding: `"same"` (aligned stages) or `"paper"` (border of 100, crop offsets of the release).
        upsampling: `"fixed"` bilinear, or `"learned"`: one kernel per channel that starts there. Where there
            are several enlargements the last stays fixed, as in the paper.
        head_channels: channels of fc6 and fc7; default 4096 * width, or 512 * width for the thin head.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`, all zero until
        the score layers are trained.

    Raises:
        UsageError: for an unknown encoder or a value out of range, or `padding="paper"` with an encoder that
            the paper does not have.

    Example:
        >>> model = FCN8s(input_shape=(360, 480, 3), num_classes=11, encoder="resnet18")

    Reference:
        Long, Shelhamer, Darrell, CVPR 2015; Shelhamer, Long, Darrell, PAMI 2016, section 4.
    """
    return _fcn(
        "FCN8s",
        8,
        input_shape,
        num_classes,
        encoder,
        weights,
        width,
        dropout,
        padding,
        upsampling,
        head_channels,
        name,
    )


@register(paper=PAPER, output_stride=8, aliases=("fcn-8s-at-once", "fcn8satonce"))
def FCN8sAtOnce(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "vgg16",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    upsampling: str = "fixed",
    head_channels: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN-8s trained in one stage: pool4 and pool3 are scaled by 0.01 and 0.0001 before they are scored.

    The scales fit VGG-16's activations, which grow to hundreds; over a batch-normalised encoder, whose maps
    are of order one, they are left out.

    Args: those of `FCN8s`.

    Returns:
        As `FCN8s`.
    """
    scales = AT_ONCE_SCALES if encoders.resolve(encoder) in FC6_KERNEL else None
    return _fcn(
        "FCN8sAtOnce",
        8,
        input_shape,
        num_classes,
        encoder,
        weights,
        width,
        dropout,
        padding,
        upsampling,
        head_channels,
        name,
        scales=scales,
    )


@register(paper=PAPER, output_stride=32, aliases=("voc-fcn-alexnet", "fcn-caffenet"))
def FCNAlexNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "alexnet",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    padding: str = "same",
    upsampling: str = "fixed",
    head_channels: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN-AlexNet: FCN-32s over AlexNet, the small one of the paper. 56,954,261 parameters.

    Args: those of `FCN8s`; `encoder` must be AlexNet.

    Returns:
        As `FCN8s`.
    """
    if encoders.resolve(encoder) != "alexnet":
        raise UsageError(
            f"FCNAlexNet: argument `encoder` must be 'alexnet'. Received: encoder={encoder!r}. "
            "Use FCN32s for another encoder."
        )
    return _fcn(
        "FCNAlexNet",
        32,
        input_shape,
        num_classes,
        encoder,
        weights,
        width,
        dropout,
        padding,
        upsampling,
        head_channels,
        name,
    )
