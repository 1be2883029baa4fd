"""A chain of layers that answers for the middle of a patch, run on every patch of an image at once."""

from __future__ import annotations

from typing import Any

import keras

from kseg.errors import check_choice
from kseg.layers import (
    BilinearUpsampling,
    CropLike,
    MirrorBorder,
    ShiftToBatch,
    StitchFromBatch,
    Subsample,
)
from kseg.models import forms
from kseg.models.parts.blocks import image_input
from kseg.models.parts.chain import Chain, check_output_stride

EVALUATORS = ("dilated", "stitch")


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
