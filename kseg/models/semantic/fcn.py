"""Fully convolutional networks: FCN-32s, 16s, 8s, 8s-at-once and FCN-AlexNet.

Two forms over the same weights. `padding="same"`: the image is padded to the stride, every convolution is
"same", and all stages are half-pixel aligned. `padding="paper"`: the image sees a border of 100 zeros,
fc6 is "valid", and what comes back is cropped at the offsets of the authors' release.

The members differ in the maps that they score; arguments and documentation are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kseg import encoders
from kseg.errors import UsageError
from kseg.layers import PickOutput
from kseg.models.forms import MAIN, Head, attach
from kseg.models.parts.blocks import image_input
from kseg.models.registry import Unions, register
from kseg.models.semantic import fcn_parts as parts
from kseg.models.semantic.fcn_parts import GEOMETRIC, SEMANTIC, Form, Scored
from kseg.models.transfer import transfer

PAPER = "Long, Shelhamer, Darrell, Fully Convolutional Networks, CVPR 2015 and PAMI 2016"
AT_ONCE_SCALES = {16: 1e-2, 8: 1e-4}

_DOCUMENTATION = """{summary}

    {detail}Args:
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


@dataclass(frozen=True)
class _Member:
    """What distinguishes one network of the family.

    Args:
        name: public name.
        finest: stride of the finest scored map.
        encoder: the default.
        at_once: whether the pools are scaled before they are scored, over an encoder without normalisation.
        only: the one encoder that is allowed, if there is one.
    """

    name: str
    finest: int
    encoder: str = "vgg16"
    at_once: bool = False
    only: str | None = None

    def resolve(self, encoder: str) -> str:
        """Return the registered name of `encoder`, or say that this network is over another one."""
        found = encoders.resolve(encoder)
        if self.only is not None and found != self.only:
            raise UsageError(
                f"{self.name}: argument `encoder` must be '{self.only}'. Received: encoder={encoder!r}. "
                "Use FCN32s for another encoder."
            )
        return found


def _network(
    member: _Member, summary: str, *, detail: str = "", aliases: tuple[str, ...]
) -> Callable[..., keras.Model]:
    """Return the registered function that builds `member`."""

    def build(
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        num_classes: int = 21,
        encoder: str = member.encoder,
        weights: str | None = None,
        width: float = 1.0,
        dropout: float = 0.5,
        padding: str = "same",
        upsampling: str = "fixed",
        head_channels: int | None = None,
        name: str | None = None,
        geometric_classes: int | None = None,
        geometric_labels: Sequence[int] | None = None,
        output_head: str = SEMANTIC,
        init_from: keras.Model | None = None,
    ) -> keras.Model:
        form = Form(member.name, member.finest, member.resolve(encoder), padding, upsampling)
        form.check()
        parts.check_heads(member.name, num_classes, geometric_classes, geometric_labels, output_head)
        image = image_input(input_shape)
        features = parts.features(form, image, weights, width)
        fc7 = parts.fully_connected(form, features[32], head_channels, width, dropout)
        pools = parts.pools(form, features, AT_ONCE_SCALES if member.at_once and form.has_fc else {})

        def score(classes: int, suffix: str, output: str) -> Any:
            return parts.logits(form, Scored(classes, suffix, output), fc7, pools, image)

        title = name or member.name.lower()
        if geometric_classes is None:
            model = keras.Model(image, score(num_classes, "", MAIN), name=title)
        else:
            semantic = score(num_classes, "", SEMANTIC)
            geometric = score(geometric_classes, f"_{GEOMETRIC}", GEOMETRIC)
            picked = PickOutput(int(output_head == GEOMETRIC), dtype="float32", name=MAIN)
            model = keras.Model(image, picked([semantic, geometric]), name=title)
            if output_head == SEMANTIC:
                attach(model, heads=[Head(GEOMETRIC, geometric, labels=tuple(geometric_labels or ()))])
        if init_from is not None:
            _start(member.name, init_from, model)
        return model

    build.__name__ = build.__qualname__ = member.name
    build.__doc__ = _DOCUMENTATION.format(
        summary=summary,
        detail=f"{detail}\n\n    " if detail else "",
        name=member.name,
        encoder="alexnet" if member.only else "resnet18",
    )
    return register(
        paper=PAPER, output_stride=member.finest, aliases=aliases, views={"output_head": _unions}
    )(build)


def _unions(arguments: Mapping[str, Any]) -> Unions | None:
    """Return what the second head tells apart, where it is the one that is shown."""
    if arguments["output_head"] != GEOMETRIC:
        return None
    return arguments["geometric_labels"], arguments["geometric_classes"]


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


FCN32s = _network(
    _Member("FCN32s", 32),
    "FCN-32s: scores at stride 32, enlarged in one step. 134,346,581 parameters over VGG-16.",
    aliases=("fcn-32",),
)
FCN16s = _network(
    _Member("FCN16s", 16),
    "FCN-16s: the scores of pool4 are added at stride 16. 134,357,354 parameters over VGG-16.",
    aliases=("fcn-16",),
)
FCN8s = _network(
    _Member("FCN8s", 8),
    "FCN-8s: the scores of pool4 and pool3 are added at strides 16 and 8. 134,362,751 parameters.",
    aliases=("fcn", "fcn-8"),
)
FCN8sAtOnce = _network(
    _Member("FCN8sAtOnce", 8, at_once=True),
    "FCN-8s trained in one stage: pool4 and pool3 are scaled by 0.01 and 0.0001 before they are scored.",
    detail="The scales fit VGG-16, whose activations grow to hundreds; over a batch-normalised encoder they "
    "are left out.",
    aliases=("fcn-8s-at-once", "fcn8satonce"),
)
FCNAlexNet = _network(
    _Member("FCNAlexNet", 32, encoder="alexnet", only="alexnet"),
    "FCN-AlexNet: FCN-32s over AlexNet, the small one of the paper. 56,954,261 parameters.",
    aliases=("voc-fcn-alexnet", "fcn-caffenet"),
)
