"""Multi-task Network Cascades: boxes, then the mask of each, then the class of each masked region; twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from kseg.checks import check_choice, whole
from kseg.layers import PickOutput
from kseg.layers.detection import (
    MOST_BOXES,
    BoxLosses,
    ClassLoss,
    Detections,
    MaskedFeatures,
    MaskLoss,
    MaskTargets,
    MaskVoting,
    Proposals,
    RefineBoxes,
    RightMasks,
    RoIWarp,
    SampleRegions,
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
    square_anchors,
    trunk,
    where,
)
from kseg.models.parts.blocks import image_input, load_own_weights
from kseg.models.registry import register

WARPED, POOLED, BINS = 28, 14, 7
# Boxes that stages 2 and 3 learn from in each image, and of their background the share that is easy.
DRAWN, POSITIVE_SHARE, LEAST, EASY_SHARE = 64, 0.3, 0.1, 0.15
# Stages 4 and 5 learn from all of these, moved, and the true boxes; of more true boxes some are drawn.
DRAWN_AGAIN = 2 * DRAWN
# Anchors that are decoded; the release thins 6,000, and 12,000 in training. Here that takes a matrix of all
# pairs.
LOOKED_AT = 3000
TARGET_FROM = 0.4


@dataclass(frozen=True)
class Variant:
    """What paper and released code do in different ways.

    Args:
        mask_weight: factor on the losses of masks.
        gradient: what the gradient of a box's numbers is cut to, through later stages.
        right_only: whether the class's gradient reaches those masks only that are right.
        foreground: whether, at inference, a box is moved on as the best class other than background says.
        mixed: whether stage 1 also learns the anchors of the boxes that stages 2 and 3 learn from, as what
            these do.
    """

    mask_weight: float
    gradient: float
    right_only: bool
    foreground: bool
    mixed: bool


VARIANTS = {
    "code": Variant(2.0, 1 / 512, right_only=True, foreground=False, mixed=True),
    "paper": Variant(1.0, math.inf, right_only=False, foreground=True, mixed=False),
}
PATHWAYS, CANDIDATES, STAGES = ("both", "box", "mask"), ("both", "last"), (3, 5)


@dataclass(frozen=True)
class Cascade:
    """The layers of stages 2 and 3, which are those of 4 and 5 too.

    Args:
        segment: boxes `(B, N, 4)`, N -> regions of features `(B, N, 14, 14, C)` and logits of masks `(B, N,
            m, m)`.
        tell: regions, masks `(B, N, m, m)`, N and the pathway that is asked, or both -> box-level logits `(B,
            N, C)`, numbers `(B, N, C, 4)` and mask-level logits `(B, N, C)`.
    """

    segment: Callable[[Any, int], tuple[Any, Any]]
    tell: Callable[[Any, Any, int, str], tuple[Any, Any, Any]]


def _cascade(features: Any, stride: int, sizes: tuple[int, int, int], num_classes: int) -> Cascade:
    """Make the layers; `sizes` are those of the mask, of its hidden layer, and of the pathways' layers."""
    mask_size, mask_hidden, hidden = sizes
    filters = features.shape[-1]
    warp, larger = RoIWarp(WARPED, stride, name="warp"), layers.MaxPooling2D(2, name="warp_pool")
    small = keras.initializers.RandomNormal(stddev=0.001, seed=0)
    rough = keras.initializers.RandomNormal(stddev=0.01, seed=0)
    inner = layers.Dense(mask_hidden, activation="relu", kernel_initializer=small, name="mask_hidden")
    draw = layers.Dense(mask_size * mask_size, kernel_initializer=small, dtype="float32", name="mask_logits")
    under, pool = MaskedFeatures(name="masked"), layers.MaxPooling2D(2, name="region_pool")
    paths = {
        path: [layers.Dense(hidden, activation="relu", name=f"{name}_{path}") for name in ("fc6", "fc7")]
        for path in ("box", "mask")
    }
    join, branches = layers.Concatenate(name="pathways"), box_branches(num_classes)
    score = layers.Dense(num_classes, kernel_initializer=rough, dtype="float32", name="mask_score")

    def segment(boxes: Any, count: int) -> tuple[Any, Any]:
        x = larger(ops.reshape(warp(features, boxes), (-1, WARPED, WARPED, filters)))
        logits = draw(inner(ops.reshape(x, (-1, count, POOLED * POOLED * filters))))
        regions = ops.reshape(x, (-1, count, POOLED, POOLED, filters))
        return regions, ops.reshape(logits, (-1, count, mask_size, mask_size))

    def tell(regions: Any, masks: Any, count: int, asked: str) -> tuple[Any, Any, Any]:
        found = []
        for path, dense in paths.items():
            x = under(regions, masks) if path == "mask" else regions
            x = pool(ops.reshape(x, (-1, POOLED, POOLED, filters)))
            x = ops.reshape(x, (-1, count, BINS * BINS * filters))
            for layer in dense:
                x = layer(x)
            found.append(x if asked in (path, "both") else ops.zeros_like(x))
        x = join(found)
        return *branches(x), score(x)

    return Cascade(segment, tell)


@register(
    paper="Dai, He, Sun, Instance-aware Semantic Segmentation via Multi-task Network Cascades, CVPR 2016",
    output_stride=16,
    task="instance",
    aliases=("multi-task-network-cascades",),
    keep_float="rpn_score|rpn_box|box_score|box_move|mask_score|mask_logits",
)
def MNC(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    encoder: str | None = "vgg16",
    width: float = 1.0,
    stride: int = 16,
    anchor_scales: tuple[float, ...] = (8, 16, 32),
    anchor_ratios: tuple[float, ...] = (0.5, 1, 2),
    stages: int = 5,
    variant: str = "code",
    through_boxes: bool = True,
    mask_size: int = 21,
    mask_hidden: int = 256,
    hidden: int = 4096,
    inference: str = "both",
    candidates: str = "both",
    voters: int = 16,
    proposals: int = 300,
    least_side: float = 16.0,
    detections: int = 100,
    name: str | None = None,
) -> keras.Model:
    """Multi-task Network Cascades of 3 or 5 stages, trained end to end.

    Stage 1 proposes boxes, 2 draws a mask in each, 3 tells the class of each masked region and moves its box;
    with 5 stages, 4 and 5 do again what 2 and 3 did, with the same weights. Features are warped to 28 x 28 by
    one bilinear sample per bin, without rounding, and pooled to 14 x 14, in all stages.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: classes of the data, the background (class 0) included.
        weights: of the encoder: None, `"imagenet"` or a path; without an encoder, a file of the whole
            network.
        encoder: a name of `kseg.encoders`, or None: a small residual one that trains from scratch.
        width: factor on the channels of encoder and heads.
        stride: of the features: 16 is conv5_3 of VGG and the fourth stage of ResNets.
        anchor_scales: sides of anchors in units of 16 pixels: 8, 16 and 32 are 128, 256 and 512 pixels.
        anchor_ratios: height by width.
        stages: 3 or 5; the weights are the same.
        variant: `"code"`, as released: losses of masks count twice, the gradient of boxes through later
            stages is cut to a 512th, that of classes reaches right masks only, stage 1 also learns the
            anchors that stages 2 and 3 learn from, and at inference background may choose where a box moves;
            `"paper"`: none of these. From scratch the uncut gradient pulls
            proposals off the objects.
        through_boxes: whether losses of later stages reach, through the boxes, the stages that gave them.
        mask_size: rows and columns of masks; 28 in the paper.
        mask_hidden: width of the mask's hidden layer, times `width`.
        hidden: width of the two layers of each pathway, times `width`.
        inference: `"both"`: classes are told from the region and from the masked region, as in training;
            `"box"` or `"mask"`: from that pathway only, the other's features being 0.
        candidates: `"both"`: the instances of stages 3 and 5 are detected among; `"last"`: the last stage's.
        voters: candidates that vote on the mask of a detection at most; 1: no voting.
        proposals: boxes of stage 1.
        least_side: proposals with a smaller side, in pixels, go.
        detections: objects that come out at most.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> `boxes` float32 `(B, detections, 4)` in pixels of
        the image (y0, x0, y1, x1, the end exclusive), `scores` float32 `(B, detections)` in falling order, 0
        in rows that fill up, `classes` float32 `(B, detections)` (whole numbers), and `masks` float32 `(B,
        detections, mask_size, mask_size)`: on a grid over each box, the object from 0.5 on. Its losses lie
        inside a training form (`kseg.models.forms.LossForm`).

    Example:
        >>> model = MNC(num_classes=2, encoder=None, width=0.25, stride=8, anchor_scales=(1, 2, 4))
    """
    check_choice("variant", variant, tuple(VARIANTS), "MNC")
    check_choice("stages", stages, STAGES, "MNC")
    check_choice("inference", inference, PATHWAYS, "MNC")
    check_choice("candidates", candidates, CANDIDATES, "MNC")
    for key, value in {"mask_size": mask_size, "mask_hidden": mask_hidden, "hidden": hidden}.items():
        whole(value, "MNC: argument", key)
    for key, value in {"proposals": proposals, "detections": detections}.items():
        whole(value, "MNC: argument", key, maximum=MOST_BOXES)
    way, image = VARIANTS[variant], image_input(input_shape)
    features = trunk(image, encoder, weights, width, stride)
    anchors = square_anchors(anchor_scales, anchor_ratios, "MNC")
    regions = proposal_network({stride: features}, {stride: anchors}, channels(512, width), paired=True)
    inner = (mask_size, channels(mask_hidden, width), channels(hidden, width))
    cascade = _cascade(features, stride, inner, num_classes)
    looked_at = max(LOOKED_AT, proposals)
    first = Proposals(looked_at, proposals, least_side=least_side, name="proposals")(image, *regions)
    found = _candidates(image, first, cascade, stages, way.foreground, inference)
    if candidates == "last":
        found = found[-1:]
    model = keras.Model(image, outputs(*_detected(image, found, detections, voters)), name=name or "mnc")
    if encoder is None:
        load_own_weights(model, weights)

    def losses() -> forms.LossForm:
        gradient = way.gradient if through_boxes else None
        more = Proposals(
            looked_at,
            proposals,
            least_side=least_side,
            gradient=gradient,
            with_anchors=True,
            name="drawn_from",
        )
        return _loss_form(image, regions, more(image, *regions), cascade, stages, way, mask_size, gradient)

    return forms.attach(model, losses=losses)


def _candidates(
    image: Any,
    proposals: tuple[Any, Any],
    cascade: Cascade,
    stages: int,
    foreground: bool,
    asked: str,
) -> list[list[Any]]:
    """Return, of stage 3 and of stage 5, boxes, which are real, mask-level logits and masks."""
    boxes, known = proposals
    count, found = boxes.shape[1], []
    for stage in range(3, stages + 1, 2):
        areas, drawing = cascade.segment(boxes, count)
        masks = ops.sigmoid(drawing)
        first, numbers, logits = cascade.tell(areas, masks, count, asked)
        # Box-level scores, and the numbers of the last stage, are learned and never asked.
        told = PickOutput(dtype="float32", name=f"told{stage}")([logits, first, numbers])
        found.append([boxes, known, told, masks])
        if stage < stages:
            boxes = RefineBoxes(foreground, name="refined")(image, boxes, numbers, logits)
    return found


def _detected(
    image: Any, candidates: list[list[Any]], detections: int, voters: int
) -> tuple[Any, Any, Any, Any]:
    """Return boxes, scores, classes and masks of what the mask-level classifier finds among candidates."""
    boxes, known, logits, masks = (
        layers.Concatenate(axis=1, dtype="float32", name=f"candidate_{name}")(parts)
        if len(parts) > 1
        else parts[0]
        for name, parts in zip(
            ("boxes", "known", "logits", "masks"), zip(*candidates, strict=True), strict=True
        )
    )
    still = ops.zeros_like(logits[..., 1:, None]) + ops.zeros_like(boxes[:, :, None])
    found, scores, classes = Detections(detections, threshold=0.3, least_score=0.001, name="detections")(
        image, boxes, known, logits, still
    )
    tight, voted = MaskVoting(voters, name="voting")(
        found, scores, classes, boxes, known, ops.softmax(logits, axis=-1), masks
    )
    return tight, scores, classes, voted


def _loss_form(
    image: Any,
    regions: Regions,
    proposals: tuple[Any, Any, Any],
    cascade: Cascade,
    stages: int,
    way: Variant,
    mask_size: int,
    gradient: float | None,
) -> forms.LossForm:
    """Return the training form; losses are named by their stages."""
    truth = truth_inputs()
    through = gradient is not None
    draw = SampleRegions(
        DRAWN, POSITIVE_SHARE, least=LEAST, easy_share=EASY_SHARE, through_boxes=through, name="regions"
    )
    *first, anchors = proposals
    *drawn, drawn_anchors = draw(*first, *where(truth), anchors)
    also = (drawn_anchors, drawn[2]) if way.mixed else None
    rpn_class, rpn_box = proposal_losses(regions, truth, image=image, also=also)
    named = {"rpn_class": rpn_class, "rpn_box": rpn_box}
    for stage in range(3, stages + 1, 2):
        losses, numbers, logits = _stage_losses(cascade, drawn, truth, mask_size, way.right_only, stage)
        named |= losses
        if stage < stages:
            moved = RefineBoxes(gradient=gradient, name="refined_drawn")(image, drawn[0], numbers, logits)
            again = SampleRegions(DRAWN_AGAIN, 1.0, through_boxes=through, name="regions_again")
            drawn = again(moved, drawn[3], *where(truth))
    form = keras.Model({forms.IMAGE: image, **truth}, named, name="mnc_losses")
    return forms.LossForm(form, {name: way.mask_weight for name in named if name in ("mask2", "mask4")})


def _stage_losses(
    cascade: Cascade,
    drawn: Sequence[Any],
    truth: dict[str, Any],
    mask_size: int,
    right_only: bool,
    stage: int,
) -> tuple[dict[str, Any], Any, Any]:
    """Return the losses of a mask stage and of the one after it, and the latter's numbers and logits."""
    boxes, index, positive, real = drawn
    count = boxes.shape[1]
    areas, drawing = cascade.segment(boxes, count)
    targets = MaskTargets(mask_size, TARGET_FROM, name=f"mask_targets{stage - 1}")(
        boxes, index, truth["true_boxes"], truth["true_masks"]
    )
    mask = MaskLoss(name=f"mask_loss{stage - 1}")(
        drawing[..., None], targets, ops.zeros_like(index), positive
    )
    masks = ops.sigmoid(drawing)
    right = RightMasks(name=f"right{stage - 1}")(
        masks, targets, boxes, index, positive, truth["true_boxes"], truth["true_masks"]
    )
    if right_only:
        share = right[..., None, None]
        masks = masks * share + ops.stop_gradient(masks) * (1 - share)
    first, numbers, logits = cascade.tell(areas, masks, count, "both")
    box_class, box = BoxLosses(name=f"box_losses{stage}")(
        first, numbers, *drawn, truth["true_boxes"], truth["true_classes"]
    )
    mask_class = ClassLoss(name=f"mask_class_loss{stage}")(logits, index, right, real, truth["true_classes"])
    named = {
        f"mask{stage - 1}": mask, f"box_class{stage}": box_class, f"mask_class{stage}": mask_class,
        f"box{stage}": box,
    }  # fmt: skip
    return named, numbers, logits
