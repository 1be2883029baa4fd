"""Patch classification: a network that names the pixel in the middle of its patch, run on whole images.

One chain of valid layers is evaluated in three ways that give the same numbers: patch by patch (the patch
form, `kseg.inference.sliding`), dense with dilated filters, and by shift-and-stitch.
"""

from __future__ import annotations

from typing import Any

import keras

from kseg.checks import check_choice
from kseg.layers import (
    BilinearUpsampling,
    CropLike,
    MirrorBorder,
    RarefiedConv2D,
    RarefiedMaxPooling2D,
    ShiftToBatch,
    StitchFromBatch,
    Subsample,
)
from kseg.models import forms
from kseg.models.blocks import channels, image_input, load_own_weights
from kseg.models.chain import Chain, check_output_stride
from kseg.models.registry import register

EVALUATORS = ("dilated", "stitch")
# (kernel, maps) of the convolutions with ReLU; a pooling 2x2 stands before each but the first, except where
# the map has become 1x1.
N4_CONVOLUTIONS = ((4, 48), (5, 48), (4, 48), (4, 48))
N4_HIDDEN = (3, 200)
PATCH_NET_CONVOLUTIONS = ((6, 32), (5, 64), (5, 128))
PATCH_NET_HIDDEN = (4, 256)


def border(receptive_field: int, output_stride: int) -> tuple[int, int]:
    """Return the rows to add before and after an image so that outputs stand in the middle of their pixels.

    Output i is for pixel `i * output_stride + (output_stride - 1) // 2`: the first of the two in the middle
    where the stride is even, as for patches of even size (`PatchForm.centre`).
    """
    before = (receptive_field - 1) // 2 - (output_stride - 1) // 2
    return before, receptive_field - output_stride - before


def enlarged(scores: Any, image: Any, output_stride: int, name: str = "logits") -> Any:
    """Enlarge scores of every `output_stride`-th pixel bilinearly and crop them to the image; float32."""
    if output_stride > 1:
        scores = BilinearUpsampling(output_stride, dtype="float32", name=f"upsample_{name}")(scores)
    return CropLike(dtype="float32", name=name)([scores, image])


def dense_network(
    chain: Chain,
    input_shape: tuple[int | None, int | None, int],
    *,
    evaluator: str,
    output_stride: int,
    name: str,
    label: str,
) -> keras.Model:
    """Return the network that gives, for every pixel, the answer of the chain on the patch around it.

    Args:
        chain: ends in one channel per class.
        input_shape: `(H, W, channels)`; H and W may be None.
        evaluator: `"dilated"` or `"stitch"`.
        output_stride: 1 for exact logits of all pixels; a larger divisor of the chain's stride for those of
            one pixel in so many per axis, enlarged bilinearly.
        name: name of the Keras model.
        label: what errors call the network.

    Returns:
        Functional model with a patch form (`kseg.models.forms`); the border of the image is mirrored.
    """
    check_choice("evaluator", evaluator, EVALUATORS, label)
    check_output_stride(output_stride, chain.stride)
    image = image_input(input_shape)
    shifts = chain.stride // output_stride if evaluator == "stitch" else 1
    before, after = border(chain.receptive_field, output_stride)
    x = MirrorBorder(before, after, shifts * output_stride, name="border")(image)
    if evaluator == "stitch":
        x = ShiftToBatch(shifts, output_stride, name="shift")(x)
        x = StitchFromBatch(shifts, dtype="float32", name="stitch")(chain(x, chain.stride))
        if output_stride > 1:
            # Rows beyond the image would take part in the enlargement.
            like = Subsample(output_stride, name="grid")(image)
            x = CropLike(dtype="float32", name="stitch_crop")([x, like])
    else:
        x = chain(x, output_stride)
    model = keras.Model(image, enlarged(x, image, output_stride), name=name)
    size = chain.receptive_field
    patch = keras.Input((size, size, input_shape[-1]), dtype="float32", name="patch")
    patch_model = keras.Model(patch, chain(patch, chain.stride), name=f"{name}_patch")
    return forms.attach(model, patch=forms.PatchForm(patch_model, size))


def _relu(filters: int, kernel: int, name: str) -> RarefiedConv2D:
    return RarefiedConv2D(filters, kernel, activation="relu", kernel_initializer="he_normal", name=name)


def _chain(
    convolutions: tuple[tuple[int, int], ...],
    hidden: tuple[int, int],
    num_classes: int,
    width: float,
    dropout: float,
) -> Chain:
    """Convolutions, each followed by a pooling; a fully connected layer as a convolution; the classifier."""
    layers: list[keras.layers.Layer] = []
    for index, (kernel, maps) in enumerate(convolutions, 1):
        layers.append(_relu(channels(maps, width), kernel, f"conv{index}"))
        layers.append(RarefiedMaxPooling2D(2, name=f"pool{index}"))
    kernel, maps = hidden
    layers.append(_relu(channels(maps, width), kernel, f"fc{len(convolutions) + 1}"))
    if dropout:
        layers.append(keras.layers.Dropout(dropout, name="dropout"))
    layers.append(RarefiedConv2D(num_classes, 1, dtype="float32", name="score"))
    return Chain(layers)


@register(
    paper="Ciresan, Giusti, Gambardella, Schmidhuber, Deep Neural Networks Segment Neuronal Membranes in "
    "Electron Microscopy Images, NIPS 2012",
    output_stride=1,
    aliases=("ciresan", "ciresan-n4"),
)
def N4(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.0,
    evaluator: str = "dilated",
    output_stride: int = 1,
    name: str | None = None,
) -> keras.Model:
    """N4: four convolutions with poolings and two fully connected layers over windows of 95 x 95 pixels.

    219,290 parameters for one channel and two classes. Stack and widths are those of the ZNN documentation's
    re-creation, which also has the rectifiers.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        weights: None, or a weights file of the whole network.
        width: factor on all channel counts.
        dropout: share of the last hidden layer that is dropped in training, in [0, 1); the original has none.
        evaluator: how the windows of all pixels are computed: `"dilated"`, every stride turned into
            dilation of what follows; or `"stitch"`, the strided network on shifted crops, whose answers are
            interlaced. The same numbers to rounding.
        output_stride: 1 for the exact logits of every pixel; 2, 4, 8 or 16 for those of one pixel in so many
            per axis, enlarged bilinearly: cheaper to validate and to run. That pixel is the last one before
            the middle of its cell, so the enlarged map lies half a pixel off.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`; borders
        are mirrored. Its patch form gives `(B, 95, 95, channels)` -> `(B, 1, 1, num_classes)`.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = N4(input_shape=(None, None, 1), num_classes=2)
    """
    chain = _chain(N4_CONVOLUTIONS, N4_HIDDEN, num_classes, width, dropout)
    model = dense_network(
        chain,
        input_shape,
        evaluator=evaluator,
        output_stride=output_stride,
        name=name or "n4",
        label="N4",
    )
    load_own_weights(model, weights)
    return model


@register(
    paper="none: a patch classifier of today's habits, evaluated as in Long et al., CVPR 2015, section 3.2",
    output_stride=1,
)
def PatchNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.5,
    evaluator: str = "dilated",
    output_stride: int = 1,
    name: str | None = None,
) -> keras.Model:
    """PatchNet: classifies the centre of 61 x 61 patches; three convolutions with poolings and two more.

    789,621 parameters for three channels and 21 classes.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        weights: None, or a weights file of the whole network.
        width: factor on all channel counts.
        dropout: share of the last hidden layer that is dropped in training, in [0, 1).
        evaluator: `"dilated"` or `"stitch"`, see `N4`.
        output_stride: 1, 2, 4 or 8, see `N4`.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`; borders
        are mirrored. Its patch form gives `(B, 61, 61, channels)` -> `(B, 1, 1, num_classes)`.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = PatchNet(input_shape=(360, 480, 3), num_classes=11, output_stride=4)
    """
    chain = _chain(PATCH_NET_CONVOLUTIONS, PATCH_NET_HIDDEN, num_classes, width, dropout)
    model = dense_network(
        chain,
        input_shape,
        evaluator=evaluator,
        output_stride=output_stride,
        name=name or "patchnet",
        label="PatchNet",
    )
    load_own_weights(model, weights)
    return model
