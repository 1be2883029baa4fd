"""Mask R-CNN with a feature pyramid: proposals, then class, box and mask of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from kseg import encoders
from kseg.checks import whole
from kseg.layers import PadToStride, Subsample
from kseg.layers.detection import (
    MOST_BOXES,
    BoxLosses,
    Detections,
    MaskLoss,
    MaskTargets,
    Proposals,
    PyramidRoIAlign,
    SampleRegions,
    reference_anchors,
)
from kseg.layers.widths import channels
from kseg.models import forms
from kseg.models.instance.truth import truth_inputs
from kseg.models.instance.two_stage import (
    Regions,
    box_branches,
    outputs,
    proposal_losses,
    proposal_network,
    where,
)
from kseg.models.parts.blocks import image_input, load_own_weights
from kseg.models.parts.residual import residual_features
from kseg.models.registry import register

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)
BOX_BINS, MASK_BINS, MASK_SIZE = 7, 14, 28
# Boxes that the heads learn from in each image: torchvision's number for one of its size is 512.
DRAWN, POSITIVE_SHARE = 128, 0.25


def _pyramid(features: dict[int, Any], filters: int) -> list[Any]:
    """Return features of `filters` channels at `STRIDES` (Lin et al., FPN, CVPR 2017, section 3)."""
    strides = STRIDES[:-1]
    lateral = {
        stride: layers.Conv2D(filters, 1, name=f"fpn_lateral{stride}")(features[stride]) for stride in strides
    }
    merged = {strides[-1]: lateral[strides[-1]]}
    for stride in reversed(strides[:-1]):
        above = layers.UpSampling2D(2, interpolation="nearest", name=f"fpn_up{stride}")(merged[2 * stride])
        merged[stride] = layers.Add(name=f"fpn_add{stride}")([lateral[stride], above])
    found = [
        layers.Conv2D(filters, 3, padding="same", name=f"fpn_out{stride}")(merged[stride])
        for stride in strides
    ]
    return [*found, Subsample(2, name=f"fpn_out{STRIDES[-1]}")(found[-1])]


def _box_head(filters: int, hidden: int, num_classes: int) -> Callable[[Any, list[Any]], tuple[Any, Any]]:
    """Return what gives logits `(B, N, C)` and numbers `(B, N, C, 4)` of boxes `(B, N, 4)`."""
    align = PyramidRoIAlign(BOX_BINS, STRIDES[:-1], name="box_align")
    dense = [layers.Dense(hidden, activation="relu", name=f"box_hidden{index}") for index in (1, 2)]
    flat, branches = layers.Reshape((-1, BOX_BINS * BOX_BINS * filters)), box_branches(num_classes)

    def head(boxes: Any, levels: list[Any]) -> tuple[Any, Any]:
        x = flat(align(boxes, levels))
        for layer in dense:
            x = layer(x)
        return branches(x)

    return head


def _mask_head(filters: int, num_classes: int) -> Callable[[Any, list[Any]], Any]:
    """Return what gives logits `(B, N, 28, 28, C)` of boxes `(B, N, 4)`."""
    align = PyramidRoIAlign(MASK_BINS, STRIDES[:-1], name="mask_align")
    convolutions = [
        layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=f"mask{n}"
        )
        for n in (1, 2, 3, 4)
    ]
    enlarge = layers.Conv2DTranspose(
        filters, 2, 2, activation="relu", kernel_initializer="he_normal", name="mask_up"
    )
    score = layers.Conv2D(num_classes, 1, dtype="float32", name="mask_score")

    def head(boxes: Any, levels: list[Any]) -> Any:
        count = boxes.shape[1]
        x = ops.reshape(align(boxes, levels), (-1, MASK_BINS, MASK_BINS, filters))
        for layer in convolutions:
            x = layer(x)
        return ops.reshape(score(enlarge(x)), (-1, count, MASK_SIZE, MASK_SIZE, num_classes))

    return head


@register(
    paper="He et al., Mask R-CNN, ICCV 2017; Lin et al., Feature Pyramid Networks, CVPR 2017",
    output_stride=4,
    task="instance",
    aliases=("mask-r-cnn",),
    # What int8 would round are places and orders, not features.
    keep_float="rpn_score|rpn_box|box_score|box_move|mask_score",
)
def MaskRCNN(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 81,
    weights: str | None = None,
    encoder: str | None = "resnet50",
    width: float = 1.0,
    anchor_scale: float = 8.0,
    proposals: int = 1000,
    detections: int = 100,
    name: str | None = None,
) -> keras.Model:
    """Mask R-CNN over a feature pyramid.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: classes of the data, the background (class 0) included.
        weights: of the encoder: None, `"imagenet"` or a path; without an encoder, a file of the whole
            network.
        encoder: a name of `kseg.encoders`, or None: a small residual one that trains from scratch.
        width: factor on the channels of pyramid and heads, and of the residual encoder.
        anchor_scale: side of the anchors in strides: 8 gives 32 to 512 pixels.
        proposals: boxes that the heads look at.
        detections: objects that come out at most.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> `boxes` float32 `(B, detections, 4)` in pixels of
        the image (y0, x0, y1, x1, the end exclusive), `scores` float32 `(B, detections)` in falling order, 0
        in rows that fill up, `classes` float32 `(B, detections)` (whole numbers), and `masks` float32 `(B,
        detections, 28, 28)`: probabilities on a grid over each box. Its losses lie inside a training form
        (`kseg.models.forms.LossForm`).

    Example:
        >>> model = MaskRCNN(num_classes=2, encoder=None, width=0.25, anchor_scale=4, detections=200)
    """
    for key, value in {"proposals": proposals, "detections": detections}.items():
        whole(value, "MaskRCNN: argument", key, maximum=MOST_BOXES)
    image = image_input(input_shape)
    if encoder is None:
        features = residual_features(PadToStride(32, name="pad")(image), width)
    else:
        features = encoders.features(encoder, image, weights=weights)
    filters, hidden = channels(256, width), channels(1024, width)
    levels = _pyramid(features, filters)
    anchors = {
        stride: reference_anchors((anchor_scale,), RATIOS, base=stride, style="fpn").tolist()
        for stride in STRIDES
    }
    regions = proposal_network(dict(zip(STRIDES, levels, strict=True)), anchors, filters)
    boxes, known = Proposals(proposals, proposals, name="proposals")(image, *regions)
    box_head, mask_head = _box_head(filters, hidden, num_classes), _mask_head(filters, num_classes)
    logits, numbers = box_head(boxes, levels[:-1])
    found, scores, classes = Detections(detections, name="detections")(
        image, boxes, known, logits, numbers[:, :, 1:]
    )
    own = ops.one_hot(classes, num_classes, dtype="float32")[:, :, None, None, :]
    masks = ops.sigmoid(ops.sum(mask_head(found, levels[:-1]) * own, axis=-1))
    model = keras.Model(image, outputs(found, scores, classes, masks), name=name or "mask_rcnn")
    if encoder is None:
        load_own_weights(model, weights)

    def losses() -> forms.LossForm:
        return _loss_form(image, levels[:-1], regions, (boxes, known), box_head, mask_head)

    return forms.attach(model, losses=losses)


def _loss_form(
    image: Any,
    levels: list[Any],
    regions: Regions,
    proposals: tuple[Any, Any],
    box_head: Callable[[Any, list[Any]], tuple[Any, Any]],
    mask_head: Callable[[Any, list[Any]], Any],
) -> forms.LossForm:
    """Return the training form: anchors and proposals are matched with the truth, sampled and learned."""
    truth = truth_inputs()
    true_boxes = truth["true_boxes"]
    rpn_class, rpn_box = proposal_losses(regions, truth)
    drawn = SampleRegions(DRAWN, POSITIVE_SHARE, name="regions")(*proposals, *where(truth))
    box_class, box = BoxLosses(name="box_losses")(
        *box_head(drawn[0], levels), *drawn, true_boxes, truth["true_classes"]
    )
    # Positive boxes come first, and only they have masks.
    boxes, index, positive, _ = (part[:, : int(DRAWN * POSITIVE_SHARE)] for part in drawn)
    targets = MaskTargets(MASK_SIZE, name="mask_targets")(boxes, index, true_boxes, truth["true_masks"])
    classes = ops.take_along_axis(truth["true_classes"], index, axis=1)
    mask = MaskLoss(name="mask_loss")(mask_head(boxes, levels), targets, classes, positive)
    named = {"rpn_class": rpn_class, "rpn_box": rpn_box, "box_class": box_class, "box": box, "mask": mask}
    return forms.LossForm(keras.Model({forms.IMAGE: image, **truth}, named, name="mask_rcnn_losses"))
