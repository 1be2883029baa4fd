"""Networks that answer for the middle of a patch, run on all patches of an image at once."""

from __future__ import annotations

from typing import Any, Protocol

import keras

from kseg.checks import check_choice
from kseg.layers import (
    BilinearUpsampling,
    CropLike,
    MirrorBorder,
    ShiftToBatch,
    StitchFromBatch,
    Subsample,
)
from kseg.models import forms
from kseg.models.parts.blocks import image_input, load_own_weights
from kseg.models.parts.chain import check_output_stride

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


class PatchNetwork(Protocol):
    """What answers for the middle of a patch: a `Chain`, or nets that apply one several times.

    `answers(x, output_stride)` gives the scores of every `output_stride`-th patch, the network's own last.
    """

    @property
    def receptive_field(self) -> int: ...

    @property
    def stride(self) -> int: ...

    def answers(self, x: Any, output_stride: int) -> list[Any]: ...


def dense_network(
    label: str,
    net: PatchNetwork,
    input_shape: tuple[int | None, int | None, int],
    evaluator: str,
    output_stride: int,
    name: str | None = None,
    weights: str | None = None,
) -> keras.Model:
    """Return the network that gives, for every pixel, the answer of `net` on the patch around it.

    Args:
        label: what errors call the network.
        net: ends in one channel per class.
        input_shape: `(H, W, channels)`; H and W may be None.
        evaluator: `"dilated"` or `"stitch"`.
        output_stride: 1 for exact logits of all pixels; a larger divisor of the net's stride for those of
            one pixel in so many per axis, enlarged bilinearly.
        name: name of the Keras model; None: the label in lower case.
        weights: None, or a weights file of the whole network.

    Returns:
        Functional model with a patch form and, for answers before the last, heads `"instance1"`, ...
        (`kseg.models.forms`); the border of the image is mirrored.
    """
    check_choice("evaluator", evaluator, EVALUATORS, label)
    check_output_stride(output_stride, net.stride)
    title, size = name or label.lower(), net.receptive_field
    image = image_input(input_shape)
    *early, last = _answers(net, image, evaluator, output_stride)
    names = [f"instance{index}" for index, _ in enumerate(early, 1)]
    heads = [
        forms.Head(instance, enlarged(scores, image, output_stride, f"logits_{instance}"))
        for instance, scores in zip(names, early, strict=True)
    ]
    model = keras.Model(image, enlarged(last, image, output_stride), name=title)
    load_own_weights(model, weights)
    patch = keras.Input((size, size, input_shape[-1]), dtype="float32", name="patch")
    *early, last = net.answers(patch, net.stride)
    outputs = {forms.MAIN: last, **dict(zip(names, early, strict=True))} if names else last
    patch_model = keras.Model(patch, outputs, name=f"{title}_patch")
    return forms.attach(model, heads=heads, patch=forms.PatchForm(patch_model, size))


def _answers(net: PatchNetwork, image: Any, evaluator: str, output_stride: int) -> list[Any]:
    """The scores of every `output_stride`-th pixel."""
    shifts = net.stride // output_stride if evaluator == "stitch" else 1
    before, after = border(net.receptive_field, output_stride)
    x = MirrorBorder(before, after, shifts * output_stride, name="border")(image)
    if evaluator == "dilated":
        return net.answers(x, output_stride)
    x = ShiftToBatch(shifts, output_stride, name="shift")(x)
    stitch = StitchFromBatch(shifts, dtype="float32", name="stitch")
    found = [stitch(scores) for scores in net.answers(x, net.stride)]
    if output_stride == 1:
        return found
    # Rows beyond the image would take part in the enlargement.
    like = Subsample(output_stride, name="grid")(image)
    crop = CropLike(dtype="float32", name="stitch_crop")
    return [crop([scores, like]) for scores in found]
