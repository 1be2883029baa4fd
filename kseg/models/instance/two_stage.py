"""What networks of two stages share: proposals, what a box is told apart by, the form of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from kseg import encoders
from kseg.checks import POSITIVE
from kseg.errors import UsageError
from kseg.layers import PadToStride
from kseg.layers.detection import Anchors, RPNLosses, reference_anchors
from kseg.models.parts.residual import residual_features

# Pixels of an anchor of scale 1 (Ren et al., Faster R-CNN).
BASE = 16

# Logits `(B, K)`, numbers `(B, K, 4)` and anchors `(1, K, 4)` of each level.
Regions = tuple[list[Any], list[Any], list[Any]]


def trunk(image: Any, encoder: str | None, weights: str | None, width: float, stride: int) -> Any:
    """Return the features at one stride; the last before a pooling, in VGG: conv5_3 at stride 16.

    Args:
        encoder: a name of `kseg.encoders`, or None for the residual one that trains from scratch.
        weights: of the encoder.
        width: factor on its channels.

    Raises:
        UsageError: if it has no features at this stride, or not this width.
    """
    if encoder is None:
        found = residual_features(PadToStride(32, name="pad")(image), width)
    else:
        found = encoders.features(encoder, image, stride_1=True, weights=weights, width=width)
    if stride not in found:
        known = ", ".join(map(str, found))
        raise UsageError(f"Argument `stride` must be one of {known}. Received: stride={stride!r}")
    return found[stride]


def square_anchors(scales: Sequence[float], ratios: Sequence[float], network: str) -> list[list[float]]:
    """Return the anchors of a place: `scales` in units of `BASE` pixels, `ratios` of height by width.

    Raises:
        UsageError: if there are none, or one is not above 0.
    """
    for name, values in (("anchor_scales", scales), ("anchor_ratios", ratios)):
        if not isinstance(values, (list, tuple)) or not values:
            raise UsageError(f"{network}: argument `{name}` must be a list of numbers. Received: {values!r}")
        for value in values:
            POSITIVE.check(value, name, f"{network}: argument")
    anchors: list[list[float]] = reference_anchors(scales, ratios, BASE).tolist()
    return anchors


def proposal_network(
    levels: Mapping[int, Any], anchors: Mapping[int, list[list[float]]], filters: int, *, paired: bool = False
) -> Regions:
    """Return what one network says of the anchors of each level.

    Args:
        levels: features by stride.
        anchors: of the place (0, 0), by stride; as many at each.
        filters: channels of its hidden layer.
        paired: two scores of each anchor, background and object, as published; their difference is the logit.
    """
    count = len(next(iter(anchors.values())))
    shared = layers.Conv2D(filters, 3, padding="same", activation="relu", name="rpn")
    small = keras.initializers.RandomNormal(stddev=0.01, seed=0)
    scores = 2 * count if paired else count
    score = layers.Conv2D(scores, 1, kernel_initializer=small, dtype="float32", name="rpn_score")
    move = layers.Conv2D(4 * count, 1, kernel_initializer=small, dtype="float32", name="rpn_box")
    found: Regions = ([], [], [])
    for stride, level in levels.items():
        x = shared(level)
        logits = score(x)
        if paired:
            logits = logits[..., count:] - logits[..., :count]
        found[0].append(layers.Reshape((-1,), name=f"rpn_scores{stride}")(logits))
        found[1].append(layers.Reshape((-1, 4), name=f"rpn_boxes{stride}")(move(x)))
        found[2].append(Anchors(anchors[stride], stride, name=f"anchors{stride}")(level))
    return found


def proposal_losses(
    regions: Regions,
    truth: Mapping[str, Any],
    sigma: float = 3.0,
    image: Any = None,
    also: tuple[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """Return the losses of class and box of a proposal network; see `RPNLosses`."""
    flat = [
        layers.Concatenate(axis=1, name=f"rpn_all{index}")(parts) if len(parts) > 1 else parts[0]
        for index, parts in enumerate(regions)
    ]
    found: tuple[Any, Any] = RPNLosses(sigma=sigma, name="rpn_losses")(*flat, *where(truth), image, also)
    return found


def where(truth: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return the true boxes, and which of these are objects and which crowds."""
    return truth["true_boxes"], truth["true_objects"], truth["true_crowds"]


def box_branches(num_classes: int) -> Callable[[Any], tuple[Any, Any]]:
    """Return what gives logits `(B, N, C)` and numbers `(B, N, C, 4)` of features `(B, N, F)`."""
    # Fast R-CNN, section 2.3: deviations of 0.01 and 0.001.
    rough = keras.initializers.RandomNormal(stddev=0.01, seed=0)
    small = keras.initializers.RandomNormal(stddev=0.001, seed=0)
    score = layers.Dense(num_classes, kernel_initializer=rough, dtype="float32", name="box_score")
    move = layers.Dense(4 * num_classes, kernel_initializer=small, dtype="float32", name="box_move")
    split = layers.Reshape((-1, num_classes, 4))
    return lambda x: (score(x), split(move(x)))


def outputs(boxes: Any, scores: Any, classes: Any, masks: Any) -> dict[str, Any]:
    """Return the outputs of an instance network by name; all float32, as runtimes have one kind of number."""
    return {"boxes": boxes, "scores": scores, "classes": ops.cast(classes, "float32"), "masks": masks}
