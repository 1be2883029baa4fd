"""Fully convolutional networks: FCN-32s, 16s, 8s, 8s-at-once and FCN-AlexNet.

Two forms over the same weights. `padding="same"`: the image is padded to the stride, every convolution is
"same", and all stages are half-pixel aligned. `padding="paper"`: the image sees a border of 100 zeros,
fc6 is "valid", and what comes back is cropped at the offsets of the authors' release.

The members differ in the maps that they score; arguments and documentation are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from kseg import encoders
from kseg.checks import check_choice
from kseg.errors import UsageError
from kseg.layers import BilinearUpsampling, CropLike, FixedScale, PickOutput, TransposedConv
from kseg.layers.widths import channels
from kseg.models.forms import MAIN, Head, attach
from kseg.models.parts.blocks import check_whole, conv_bn_relu, image_input
from kseg.models.registry import Unions, register
from kseg.models.transfer import transfer

PAPER = "Long, Shelhamer, Darrell, Fully Convolutional Networks, CVPR 2015 and PAMI 2016"
PADDINGS = ("same", "paper")
UPSAMPLINGS = ("fixed", "learned", "learned_all")
# What the paper calls the two labelings of SIFT Flow: values of `output_head`, names of layers, in files.
FIRST, SECOND = HEADS = ("semantic", "geometric")
BORDER = 100
FC6_KERNEL = {"vgg16": 7, "alexnet": 6}
FC_CHANNELS = 4096
THIN_HEAD = 512  # over encoders that are batch-normalised and deep enough without fc6 and fc7
LAST_OFFSET = {32: 19, 16: 27, 8: 31}  # stride of the last enlargement -> crop offset behind it
ALEXNET_OFFSET, ALEXNET_KERNEL = 18, 63


class _Skip(NamedTuple):
    """A pool whose scores are added to coarser ones."""

    stride: int
    level: int
    enlargement: str  # name of the layer that brings the coarser scores to this stride
    offset: int  # of the crop of its scores, in the paper's form
    scale: float  # of its features, where all is trained at once


SKIPS = (_Skip(16, 4, "upscore2", 5, 1e-2), _Skip(8, 3, "upscore_pool4", 9, 1e-4))


class _Form(NamedTuple):
    """The choices that every layer of one network depends on."""

    finest: int  # stride of the finest scored map
    encoder: str
    paper: bool  # borders and crops of the authors' release
    upsampling: str


_DOCUMENTATION = """{summary}

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        encoder: a name of `kseg.encoders`. VGG-16 and AlexNet are followed by fc6 and fc7; the others, which
            are batch-normalised, by one thin 1x1 convolution.
        weights: of the encoder: None, `"imagenet"` or a path.
        width: factor on all channel counts, where the encoder has one.
        dropout: share of the head's features that is dropped in training, in [0, 1).
        padding: `"same"` (aligned stages) or `"paper"` (border of 100, crop offsets of the release).
        upsampling: `"fixed"` bilinear (the release), `"learned"`: one kernel per channel that starts there,
            where the last of several enlargements stays fixed (the paper), or `"learned_all"`: the last too.
        head_channels: channels of fc6 and fc7; default 4096 * width, or 512 * width for the thin head.
        name: name of the Keras model.
        geometric_classes: classes of a second head, as for SIFT Flow (3: sky, horizontal, vertical), which
            has score layers of its own and whose loss is added; None: one head.
        geometric_labels: geometric class of each class id, in order.
        output_head: which head the output `logits` is: `"semantic"` or `"geometric"`. Both stay in the saved
            model in either case, so that `kseg.models.rebuild` can switch. A network is trained as
            `"semantic"`.
        init_from: trained network of the family to start from, in the paper the one that is a step
            coarser (32s for 16s, 16s for 8s). Its layers are copied; what it lacks starts as it would
            without it: new scores at zero, new enlargements bilinear.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`, all zero until
        the score layers are trained.

    Raises:
        UsageError: for an unknown encoder, a value out of range, choices that exclude each other, or an
            `init_from` over another encoder, width or head.

    Example:
        >>> model = {name}(input_shape=(360, 480, 3), num_classes=11, encoder="{encoder}")

    Reference:
        Long, Shelhamer, Darrell, CVPR 2015; Shelhamer, Long, Darrell, PAMI 2016, section 4.
    """


def _member(
    network: str,
    summary: str,
    *,
    finest: int,
    aliases: tuple[str, ...],
    default_encoder: str = "vgg16",
    at_once: bool = False,
) -> Callable[..., keras.Model]:
    """Return the registered function that builds one member of the family.

    Args:
        network: public name.
        summary: how its documentation begins.
        finest: stride of the finest scored map.
        aliases: see `register`.
        default_encoder: the only one for AlexNet.
        at_once: whether the pools are scaled before they are scored, over an encoder without normalisation.
    """

    def build(
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        num_classes: int = 21,
        encoder: str = default_encoder,
        weights: str | None = None,
        width: float = 1.0,
        dropout: float = 0.5,
        padding: str = "same",
        upsampling: str = "fixed",
        head_channels: int | None = None,
        name: str | None = None,
        geometric_classes: int | None = None,
        geometric_labels: Sequence[int] | None = None,
        output_head: str = FIRST,
        init_from: keras.Model | None = None,
    ) -> keras.Model:
        key = encoders.resolve(encoder)
        if default_encoder == "alexnet" and key != "alexnet":
            raise UsageError(
                f"{network}: argument `encoder` must be 'alexnet'. Received: encoder={encoder!r}. "
                "Use FCN32s for another encoder."
            )
        _check(network, finest, key, padding, upsampling)
        _check_heads(network, num_classes, geometric_classes, geometric_labels, output_head)
        form = _Form(finest, key, padding == "paper", upsampling)
        image = image_input(input_shape)
        if form.paper:
            features = encoders.build(key, image, weights=weights, width=width, first_pad=BORDER)
        else:
            features = encoders.features(key, image, weights=weights, width=width)
        fc7 = _fully_connected(network, form, features[32], head_channels, width, dropout)
        pools = {skip: features[skip.stride] for skip in SKIPS if skip.stride >= finest}
        if at_once and key in FC6_KERNEL:
            for skip, x in pools.items():
                pools[skip] = FixedScale(skip.scale, dtype="float32", name=f"scale_pool{skip.level}")(x)

        title = name or network.lower()
        if geometric_classes is None:
            model = keras.Model(image, _logits(form, fc7, pools, image, num_classes, "", MAIN), name=title)
        else:
            first = _logits(form, fc7, pools, image, num_classes, "", FIRST)
            second = _logits(form, fc7, pools, image, geometric_classes, f"_{SECOND}", SECOND)
            shown = PickOutput(HEADS.index(output_head), dtype="float32", name=MAIN)([first, second])
            model = keras.Model(image, shown, name=title)
            if output_head == FIRST:
                attach(model, heads=[Head(SECOND, second, labels=tuple(geometric_labels or ()))])
        if init_from is not None:
            _start(network, init_from, model)
        return model

    build.__name__ = build.__qualname__ = network
    example = "alexnet" if default_encoder == "alexnet" else "resnet18"
    build.__doc__ = _DOCUMENTATION.format(summary=summary, name=network, encoder=example)
    return register(paper=PAPER, output_stride=finest, aliases=aliases, views={"output_head": _unions})(build)


def _unions(arguments: Mapping[str, Any]) -> Unions | None:
    """Return what the second head tells apart, where it is the one that is shown."""
    if arguments["output_head"] != SECOND:
        return None
    return arguments["geometric_labels"], arguments["geometric_classes"]


def _fully_connected(
    network: str, form: _Form, x: Any, count: int | None, width: float, dropout: float
) -> Any:
    """fc6 and fc7 as convolutions, or one thin 1x1 convolution over a batch-normalised encoder."""
    kernel = FC6_KERNEL.get(form.encoder)
    if count is None:
        count = channels(FC_CHANNELS if kernel else THIN_HEAD, width)
    check_whole(network, "head_channels", count)
    if kernel is None:
        x = conv_bn_relu(x, count, 1, name="fc6")
        return layers.Dropout(dropout, name="fc6_dropout")(x) if dropout else x
    for name, side in (("fc6", kernel), ("fc7", 1)):
        x = layers.Conv2D(
            count,
            side,
            padding="valid" if form.paper else "same",
            activation="relu",
            kernel_initializer="he_uniform",
            name=name,
        )(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return x


def _logits(
    form: _Form, fc7: Any, pools: Mapping[_Skip, Any], image: Any, classes: int, suffix: str, output: str
) -> Any:
    """Score fc7 and the pools, add up, enlarge to the image: `(B, H, W, classes)` float32.

    Args:
        suffix: behind the names of the layers.
        output: name of the layer that crops the logits to the image.
    """

    def score(x: Any, name: str) -> Any:
        # Starts at zero, so that a new skip changes nothing at first.
        return layers.Conv2D(classes, 1, kernel_initializer="zeros", dtype="float32", name=name + suffix)(x)

    x = score(fc7, "score_fr")
    for skip, pool in pools.items():
        x = _enlarge(form, x, 2, skip.enlargement + suffix, last=False)
        added = score(pool, f"score_pool{skip.level}")
        if form.paper:
            crop = CropLike(skip.offset, dtype="float32", name=f"score_pool{skip.level}c{suffix}")
            added = crop([added, x])
        x = layers.Add(dtype="float32", name=f"fuse_pool{skip.level}{suffix}")([x, added])
    x = _enlarge(form, x, form.finest, f"upscore{form.finest}{suffix}", last=bool(pools))
    offset = ALEXNET_OFFSET if form.encoder == "alexnet" else LAST_OFFSET[form.finest]
    return CropLike(offset if form.paper else 0, dtype="float32", name=output)([x, image])


def _enlarge(form: _Form, x: Any, factor: int, name: str, *, last: bool) -> Any:
    """Bilinear enlargement, fixed or learned from there; "learned" leaves the last of several fixed."""
    learned = form.upsampling == "learned_all" or (form.upsampling == "learned" and not last)
    if not form.paper and not learned:
        return BilinearUpsampling(factor, dtype="float32", name=name)(x)
    return TransposedConv(
        kernel_size=ALEXNET_KERNEL if form.paper and form.encoder == "alexnet" else 2 * factor,
        strides=factor,
        padding="valid" if form.paper else "same",
        learnable=learned,
        dtype="float32",
        name=name,
    )(x)


def _check(network: str, finest: int, encoder: str, padding: str, upsampling: str) -> None:
    """Raise a UsageError for choices that exclude each other."""
    check_choice("padding", padding, PADDINGS, network)
    check_choice("upsampling", upsampling, UPSAMPLINGS, network)
    if padding == "paper" and encoder not in FC6_KERNEL:
        raise UsageError(
            f"{network}: padding='paper' is defined for the encoders vgg16 and alexnet. "
            f"Received: encoder={encoder!r}. Use padding='same'."
        )
    if padding == "paper" and encoder == "alexnet" and finest < 32:
        raise UsageError(
            f"{network}: the paper has no skips over AlexNet. Received: encoder='alexnet', "
            "padding='paper'. Use FCNAlexNet, or padding='same'."
        )


def _check_heads(
    network: str, num_classes: int, count: int | None, labels: Sequence[int] | None, output: str
) -> None:
    """Raise a UsageError when the arguments of the second head do not fit each other."""
    check_choice("output_head", output, HEADS, network)
    if count is None:
        if labels is not None or output == SECOND:
            raise UsageError(
                f"{network}: a second head needs geometric_classes, its number of classes. Received: "
                f"geometric_classes=None, geometric_labels={labels!r}, output_head={output!r}"
            )
        return
    check_whole(network, "geometric_classes", count)
    listed = list(labels) if isinstance(labels, (list, tuple)) else []
    whole = all(type(item) is int and 0 <= item < count for item in listed)
    if len(listed) != num_classes or not whole:
        raise UsageError(
            f"{network}: argument `geometric_labels` must give each of the {num_classes} classes its "
            f"geometric class, 0 to {count - 1}. Received: geometric_labels={labels!r}"
        )


def _start(network: str, source: Any, model: keras.Model) -> None:
    """Copy the layers that `model` shares with `source`; what may be new are scores and enlargements."""
    if not isinstance(source, keras.Model):
        raise UsageError(
            f"{network}: argument `init_from` must be a Keras model, for a file kseg.load(path). "
            f"Received: {type(source).__name__} {source!r}"
        )
    copied = set(transfer(source, model))
    missing = [
        layer.name
        for layer in model.layers
        if layer.weights and layer.name not in copied and not layer.name.startswith(("score_", "upscore"))
    ]
    if missing:
        raise UsageError(
            f"{network}: the network to start from, {source.name}, has no layer of the name and shape of "
            f"{', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}. Build both with the same "
            "encoder, width and head_channels."
        )


FCN32s = _member(
    "FCN32s",
    "FCN-32s: scores at stride 32, enlarged in one step. 134,346,581 parameters over VGG-16.",
    finest=32,
    aliases=("fcn-32",),
)
FCN16s = _member(
    "FCN16s",
    "FCN-16s: the scores of pool4 are added at stride 16. 134,357,354 parameters over VGG-16.",
    finest=16,
    aliases=("fcn-16",),
)
FCN8s = _member(
    "FCN8s",
    "FCN-8s: the scores of pool4 and pool3 are added at strides 16 and 8. 134,362,751 parameters.",
    finest=8,
    aliases=("fcn", "fcn-8"),
)
FCN8sAtOnce = _member(
    "FCN8sAtOnce",
    """FCN-8s trained in one stage: pool4 and pool3 are scaled by 0.01 and 0.0001 before they are scored.

    The scales fit VGG-16, whose activations grow to hundreds; over a batch-normalised encoder they are left
    out.""",
    finest=8,
    aliases=("fcn-8s-at-once", "fcn8satonce"),
    at_once=True,
)
FCNAlexNet = _member(
    "FCNAlexNet",
    "FCN-AlexNet: FCN-32s over AlexNet, the small one of the paper. 56,954,261 parameters.",
    finest=32,
    aliases=("voc-fcn-alexnet", "fcn-caffenet"),
    default_encoder="alexnet",
)
