"""What the members of the FCN family are made of: scores, enlargements, skips, one or two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers

from kseg import encoders
from kseg.errors import UsageError, check_choice
from kseg.layers import BilinearUpsampling, CropLike, FixedScale, TransposedConv
from kseg.layers.widths import channels
from kseg.models.parts.blocks import check_whole, conv_bn_relu

PADDINGS = ("same", "paper")
UPSAMPLINGS = ("fixed", "learned", "learned_all")
SEMANTIC, GEOMETRIC = "semantic", "geometric"
BORDER = 100
FC6_KERNEL = {"vgg16": 7, "alexnet": 6}
FC_CHANNELS = 4096
THIN_HEAD = 512  # over encoders that are batch-normalised and deep enough without fc6 and fc7
# Strides of the scored maps -> crop offset of each pool's score, and of the last enlargement.
POOL_OFFSET = {16: 5, 8: 9}
LAST_OFFSET = {32: 19, 16: 27, 8: 31}
ALEXNET_OFFSET, ALEXNET_KERNEL = 18, 63
POOL_LEVEL = {16: 4, 8: 3}


@dataclass(frozen=True)
class Form:
    """The choices that every layer of one network depends on."""

    network: str
    finest: int
    encoder: str
    padding: str
    upsampling: str

    @property
    def is_paper(self) -> bool:
        """Whether borders and crops are those of the authors' release."""
        return self.padding == "paper"

    @property
    def has_fc(self) -> bool:
        """Whether the encoder is followed by fc6 and fc7."""
        return self.encoder in FC6_KERNEL

    def check(self) -> None:
        """Raise a UsageError for choices that exclude each other."""
        check_choice("padding", self.padding, PADDINGS, self.network)
        check_choice("upsampling", self.upsampling, UPSAMPLINGS, self.network)
        if self.is_paper and not self.has_fc:
            raise UsageError(
                f"{self.network}: padding='paper' is defined for the encoders vgg16 and alexnet. "
                f"Received: encoder={self.encoder!r}. Use padding='same'."
            )
        if self.is_paper and self.encoder == "alexnet" and self.finest < 32:
            raise UsageError(
                f"{self.network}: the paper has no skips over AlexNet. Received: encoder='alexnet', "
                "padding='paper'. Use FCNAlexNet, or padding='same'."
            )


@dataclass(frozen=True)
class Scored:
    """One head: what it classifies and what its layers are called.

    Args:
        classes: number of logits per pixel.
        suffix: behind the names of its layers; empty for the semantic head.
        output: name of the layer that crops its logits to the image's size.
    """

    classes: int
    suffix: str
    output: str


def features(form: Form, image: Any, weights: str | None, width: float) -> dict[int, Any]:
    """Features of the encoder by stride."""
    if form.is_paper:
        return encoders.build(form.encoder, image, weights=weights, width=width, first_pad=BORDER)
    return encoders.features(form.encoder, image, weights=weights, width=width)


def fully_connected(form: Form, x: Any, count: int | None, width: float, dropout: float) -> Any:
    """fc6 and fc7 as convolutions, or one thin 1x1 convolution over a batch-normalised encoder."""
    if count is None:
        count = channels(FC_CHANNELS if form.has_fc else THIN_HEAD, width)
    check_whole(form.network, "head_channels", count)
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


def pools(form: Form, found: Mapping[int, Any], scales: Mapping[int, float]) -> dict[int, Any]:
    """The pools whose scores are added, by stride, each times its scale."""
    kept = {}
    for stride, level in POOL_LEVEL.items():
        if stride < form.finest:
            continue
        scale = scales.get(stride, 1.0)
        x = found[stride]
        kept[stride] = x if scale == 1.0 else FixedScale(scale, dtype="float32", name=f"scale_pool{level}")(x)
    return kept


def logits(form: Form, head: Scored, fc7: Any, finer: Mapping[int, Any], image: Any) -> Any:
    """Score fc7 and the finer maps, add up, enlarge to the image: `(B, H, W, head.classes)` float32."""
    x = _score(head, fc7, "score_fr")
    stride = 32
    while stride > form.finest:
        stride //= 2
        level = POOL_LEVEL[stride]
        name = "upscore2" if stride == 16 else "upscore_pool4"
        x = _enlarge(form, x, 2, name + head.suffix, last=False)
        skip = _score(head, finer[stride], f"score_pool{level}")
        if form.is_paper:
            name = f"score_pool{level}c{head.suffix}"
            skip = CropLike(POOL_OFFSET[stride], dtype="float32", name=name)([skip, x])
        x = layers.Add(dtype="float32", name=f"fuse_pool{level}{head.suffix}")([x, skip])
    alexnet = form.is_paper and form.encoder == "alexnet"
    kernel = ALEXNET_KERNEL if alexnet else 2 * stride
    name = f"upscore{stride}{head.suffix}"
    x = _enlarge(form, x, stride, name, last=stride < 32, kernel=kernel)
    offset = (ALEXNET_OFFSET if alexnet else LAST_OFFSET[stride]) if form.is_paper else 0
    return CropLike(offset, dtype="float32", name=head.output)([x, image])


def _score(head: Scored, x: Any, name: str) -> Any:
    """1x1 convolution to classes that starts at zero, so that a new skip changes nothing at first."""
    score = layers.Conv2D(
        head.classes, 1, kernel_initializer="zeros", dtype="float32", name=name + head.suffix
    )
    return score(x)


def _enlarge(form: Form, x: Any, factor: int, name: str, *, last: bool, kernel: int | None = None) -> Any:
    """Bilinear enlargement, fixed or learned from there; "learned" leaves the last of several fixed."""
    learned = form.upsampling == "learned_all" or (form.upsampling == "learned" and not last)
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


def check_heads(
    network: str, num_classes: int, geometric_classes: int | None, labels: Sequence[int] | None, output: str
) -> None:
    """Raise a UsageError when the arguments of the second head do not fit each other."""
    check_choice("output_head", output, (SEMANTIC, GEOMETRIC), network)
    if geometric_classes is None:
        if labels is not None or output == GEOMETRIC:
            raise UsageError(
                f"{network}: a second head needs geometric_classes, its number of classes. Received: "
                f"geometric_classes=None, geometric_labels={labels!r}, output_head={output!r}"
            )
        return
    if isinstance(geometric_classes, bool) or not isinstance(geometric_classes, int) or geometric_classes < 1:
        raise UsageError(
            f"{network}: argument `geometric_classes` must be a positive integer or None. "
            f"Received: geometric_classes={geometric_classes!r}"
        )
    listed = list(labels) if isinstance(labels, (list, tuple)) else []
    whole = all(type(item) is int and 0 <= item < geometric_classes for item in listed)
    if len(listed) != num_classes or not whole:
        raise UsageError(
            f"{network}: argument `geometric_labels` must give each of the {num_classes} classes its "
            f"geometric class, 0 to {geometric_classes - 1}. Received: geometric_labels={labels!r}"
        )
