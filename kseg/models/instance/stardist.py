"""StarDist: each cell of a map says whether an object has its middle there, and how far its border is."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from kseg.checks import check_choice, whole
from kseg.layers import BilinearUpsampling, PadToStride
from kseg.layers.detection import (
    MOST_BOXES,
    CellClassLoss,
    CellLoss,
    RayLoss,
    RoIAlign,
    StarDetections,
    StarMasks,
    StarTargets,
    TightBoxes,
)
from kseg.layers.widths import channels
from kseg.models import forms
from kseg.models.instance.truth import truth_inputs
from kseg.models.parts.blocks import conv_bn_relu, image_input, load_own_weights
from kseg.models.parts.residual import residual_features
from kseg.models.registry import register

DECODER = (128, 128, 64, 64)  # strides 16, 8, 4, 2
STRIDES = (2, 4)
HEAD = 128
MASK_SIZE = 28
# Stars are made so much larger where the map of what is inside of objects decides about their border: their
# boxes, and once more their masks.
WIDER, MARGIN = 1.1, 1.2
# Small numbers, as most cells are easy.
LOSS_WEIGHTS = {"object": 2.0, "inside": 2.0}
# exp of at most so much: 2981 cells.
MOST_LOGARITHM = 8.0
MOST_RAYS = 1024


def _decoder(features: dict[int, Any], width: float, output_stride: int) -> Any:
    """Return features at `output_stride`: enlarged, joined with the encoder's, convolved, step by step."""
    x = features[32]
    for count, stride in zip(DECODER, (16, 8, 4, 2), strict=True):
        if stride < output_stride:
            break
        filters = channels(count, width)
        x = conv_bn_relu(x, filters, 1, name=f"decoder{stride}_reduce")
        x = BilinearUpsampling(2, name=f"decoder{stride}_upsample")(x)
        x = layers.Concatenate(name=f"decoder{stride}_skip")([x, features[stride]])
        x = conv_bn_relu(x, filters, name=f"decoder{stride}")
    return x


def _score(x: Any, filters: int, name: str, bias: float = 0.0) -> Any:
    start = keras.initializers.Constant(bias)
    return layers.Conv2D(filters, 1, bias_initializer=start, dtype="float32", name=name)(x)


@register(
    paper="Schmidt et al., Cell Detection with Star-convex Polygons, MICCAI 2018",
    output_stride=2,
    task="instance",
    aliases=("star-dist",),
    keep_float=r"(^|/)(object|inside|rays|class)(_\d+)?(/|$)",
)
def StarDist(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 2,
    weights: str | None = None,
    width: float = 1.0,
    output_stride: int = 2,
    rays: int = 32,
    detections: int = 400,
    refine: bool = True,
    name: str | None = None,
) -> keras.Model:
    """StarDist: objects as star-convex shapes, found in one stage by a network that trains from scratch.

    A small residual encoder and a decoder as in `ResUNet`. Each cell of the last map says how deep in an
    object it lies, whether it lies in one at all, and how far the border is along rays. The deepest cells
    become stars, thinned by non-maximum suppression.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: classes of the data, the background (class 0) included.
        weights: None, or the path of a weights file of this network.
        width: factor on all channel counts.
        output_stride: pixels of the image per cell, 2 or 4.
        rays: of a star, at least 8.
        detections: objects that come out at most.
        refine: cut the masks to what lies inside of any object, pixel by pixel; False: the stars themselves.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> `boxes` float32 `(B, detections, 4)` in pixels of
        the image (y0, x0, y1, x1, the end exclusive), `scores` float32 `(B, detections)` in falling order, 0
        in rows that fill up, `classes` float32 `(B, detections)` (whole numbers), and `masks` float32 `(B,
        detections, 28, 28)`: probabilities on a grid over each box. Its losses lie inside a training form
        (`kseg.models.forms.LossForm`).

    Example:
        >>> model = StarDist(num_classes=2, width=0.5)
    """
    check_choice("output_stride", output_stride, STRIDES, "StarDist")
    rays = whole(rays, "StarDist: argument", "rays", minimum=8, maximum=MOST_RAYS)
    detections = whole(detections, "StarDist: argument", "detections", maximum=MOST_BOXES)
    image = image_input(input_shape)
    features = residual_features(PadToStride(32, name="pad")(image), width)
    x = conv_bn_relu(_decoder(features, width, output_stride), channels(HEAD, width), name="head")
    # As rare as objects are: the first steps are not spent on unlearning them everywhere.
    depth = _score(x, 1, "object", bias=-2.0)
    inside = _score(x, 1, "inside", bias=-1.0)
    logarithm = _score(x, rays, "rays", bias=1.5)
    distances = ops.exp(ops.minimum(logarithm, MOST_LOGARITHM)) * output_stride
    kinds = _score(x, num_classes - 1, "class") if num_classes > 2 else None
    shares = () if kinds is None else (ops.softmax(kinds, axis=-1),)
    boxes, scores, classes, centres, far = StarDetections(detections, output_stride, name="detections")(
        image, ops.sigmoid(depth), distances * WIDER if refine else distances, *shares
    )
    if refine:
        masks = StarMasks(MASK_SIZE, name="stars")(boxes, centres, far * MARGIN)
        seen = RoIAlign(MASK_SIZE, output_stride, samples=1, dtype="float32", name="inside_align")(
            ops.sigmoid(inside), boxes
        )
        boxes, masks = TightBoxes(name="tight")(boxes, ops.minimum(masks, seen[..., 0]))
    else:
        masks = StarMasks(MASK_SIZE, name="stars")(boxes, centres, far)
    outputs = {"boxes": boxes, "scores": scores, "classes": classes, "masks": masks}
    model = keras.Model(image, outputs, name=name or "stardist")
    load_own_weights(model, weights)

    def losses() -> forms.LossForm:
        truth = truth_inputs()
        share, within, counts, index, rows, drawn, wanted = StarTargets(rays, output_stride, name="targets")(
            x, truth["true_boxes"], truth["true_masks"], truth["true_objects"], truth["true_crowds"]
        )
        named = {
            "object": CellLoss(name="object_loss")(depth, share, counts),
            "inside": CellLoss(name="inside_loss")(inside, within, counts),
            "rays": RayLoss(name="rays_loss")(distances, index, drawn, wanted),
        }
        if kinds is not None:
            named["class"] = CellClassLoss(name="class_loss")(
                kinds, index, rows, drawn, truth["true_classes"]
            )
        form = keras.Model({forms.IMAGE: image, **truth}, named, name="stardist_losses")
        return forms.LossForm(form, LOSS_WEIGHTS)

    return forms.attach(model, losses=losses)
