"""Faster R-CNN: proposals of one map of features, then class and box of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from kseg.checks import SHARE, check_choice, whole
from kseg.layers.detection import MOST_BOXES, BoxLosses, Detections, Proposals, RoIAlign, SampleRegions
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

BINS = 7
# Boxes that the head learns from in each image.
DRAWN, POSITIVE_SHARE = 128, 0.25
# Anchors that are decoded; the release thins 6,000, and 12,000 in training. Here that takes a matrix of all
# pairs.
LOOKED_AT, TRAINED = 3000, 2000
# Variant -> sigma and factor of the proposals' box loss: 10 over 2,400 positions in the paper, 1 over 256
# anchors in the code.
VARIANTS = {"code": (3.0, 1.0), "paper": (1.0, 10 * 256 / 2400)}

Head = Callable[[Any, int], tuple[Any, Any]]


def _head(features: Any, stride: int, hidden: int, num_classes: int, dropout: float) -> Head:
    """Return what gives logits `(B, N, C)` and numbers `(B, N, C, 4)` of boxes `(B, N, 4)`."""
    align = RoIAlign(2 * BINS, stride, samples=1, name="box_align")
    pool = layers.MaxPooling2D(2, name="box_pool")
    filters = features.shape[-1]
    dense = [layers.Dense(hidden, activation="relu", name=name) for name in ("fc6", "fc7")]
    drop = [layers.Dropout(dropout, name=name) for name in ("drop6", "drop7")]
    branches = box_branches(num_classes)

    def head(boxes: Any, count: int) -> tuple[Any, Any]:
        x = pool(ops.reshape(align(features, boxes), (-1, 2 * BINS, 2 * BINS, filters)))
        x = ops.reshape(x, (-1, count, BINS * BINS * filters))
        for layer, dropped in zip(dense, drop, strict=True):
            x = dropped(layer(x))
        return branches(x)

    return head


@register(
    paper="Ren, He, Girshick, Sun, Faster R-CNN: Towards Real-Time Object Detection, NIPS 2015",
    output_stride=16,
    task="instance",
    aliases=("faster-r-cnn",),
    keep_float="rpn_score|rpn_box|box_score|box_move",
)
def FasterRCNN(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    encoder: str | None = "vgg16",
    width: float = 1.0,
    stride: int = 16,
    anchor_scales: tuple[float, ...] = (8, 16, 32),
    anchor_ratios: tuple[float, ...] = (0.5, 1, 2),
    hidden: int = 4096,
    dropout: float = 0.5,
    variant: str = "code",
    proposals: int = 300,
    least_side: float = 16.0,
    background_from: float = 0.1,
    detections: int = 100,
    name: str | None = None,
) -> keras.Model:
    """Faster R-CNN: boxes and classes; each mask fills its box.

    In place of RoI pooling, whose bins are rounded to whole pixels, the largest of 2 x 2 bilinear samples is
    taken in each of 7 x 7 bins.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: classes of the data, the background (class 0) included.
        weights: of the encoder: None, `"imagenet"` or a path; without an encoder, a file of the whole
            network.
        encoder: a name of `kseg.encoders`, or None: a small residual one that trains from scratch.
        width: factor on the channels of encoder and head.
        stride: of the features: 16 is conv5_3 of VGG and the fourth stage of ResNets.
        anchor_scales: sides of anchors in units of 16 pixels: 8, 16 and 32 are 128, 256 and 512 pixels.
        anchor_ratios: height by width.
        hidden: width of the head's two layers, times `width`.
        dropout: after each of them.
        variant: of the proposals' box loss, `"code"`: smooth L1 of sigma 3, as released; `"paper"`: of sigma
            1, with the factor 10 for the mean over positions.
        proposals: boxes that the head looks at; 2,000 are drawn from in training.
        least_side: proposals with a smaller side, in pixels, go.
        background_from: IoU with an object from which the head learns a box as background; at 0 it learns
            from images without objects, too.
        detections: objects that come out at most.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> `boxes` float32 `(B, detections, 4)` in pixels of
        the image (y0, x0, y1, x1, the end exclusive), `scores` float32 `(B, detections)` in falling order, 0
        in rows that fill up, `classes` float32 `(B, detections)` (whole numbers), and `masks` float32 `(B,
        detections, 1, 1)`: 1 for each detection, 0 in rows that fill up. Its losses lie inside a training
        form (`kseg.models.forms.LossForm`).

    Example:
        >>> model = FasterRCNN(num_classes=2, encoder=None, width=0.25, stride=8, anchor_scales=(1, 2, 4))
    """
    check_choice("variant", variant, tuple(VARIANTS), "FasterRCNN")
    SHARE.check(background_from, "background_from", "FasterRCNN: argument")
    image = image_input(input_shape)
    features = trunk(image, encoder, weights, width, stride)
    anchors = square_anchors(anchor_scales, anchor_ratios, "FasterRCNN")
    regions = proposal_network({stride: features}, {stride: anchors}, channels(512, width), paired=True)
    wide = channels(whole(hidden, "FasterRCNN: argument", "hidden"), width)
    head = _head(features, stride, wide, num_classes, dropout)
    shown = whole(proposals, "FasterRCNN: argument", "proposals", maximum=MOST_BOXES)
    whole(detections, "FasterRCNN: argument", "detections", maximum=MOST_BOXES)
    looked_at = max(LOOKED_AT, shown)
    boxes, known = Proposals(looked_at, shown, least_side=least_side, name="proposals")(image, *regions)
    logits, numbers = head(boxes, shown)
    found, scores, classes = Detections(detections, threshold=0.3, name="detections")(
        image, boxes, known, logits, numbers[:, :, 1:]
    )
    # One cell fills the box.
    masks = ops.cast(scores > 0, "float32")[:, :, None, None]
    model = keras.Model(image, outputs(found, scores, classes, masks), name=name or "faster_rcnn")
    if encoder is None:
        load_own_weights(model, weights)

    def losses() -> forms.LossForm:
        more = Proposals(looked_at, max(TRAINED, shown), least_side=least_side, name="drawn_from")
        return _loss_form(image, regions, more(image, *regions), head, variant, background_from)

    return forms.attach(model, losses=losses)


def _loss_form(
    image: Any,
    regions: Regions,
    proposals: tuple[Any, Any],
    head: Head,
    variant: str,
    background_from: float,
) -> forms.LossForm:
    """Return the training form: anchors and proposals are matched with the truth, sampled and learned."""
    sigma, factor = VARIANTS[variant]
    truth = truth_inputs()
    rpn_class, rpn_box = proposal_losses(regions, truth, sigma, image)
    sample = SampleRegions(DRAWN, POSITIVE_SHARE, least=background_from, name="regions")
    drawn = sample(*proposals, *where(truth))
    box_class, box = BoxLosses(name="box_losses")(
        *head(drawn[0], DRAWN), *drawn, truth["true_boxes"], truth["true_classes"]
    )
    named = {"rpn_class": rpn_class, "rpn_box": rpn_box, "box_class": box_class, "box": box}
    form = keras.Model({forms.IMAGE: image, **truth}, named, name="faster_rcnn_losses")
    return forms.LossForm(form, {"rpn_box": factor})
