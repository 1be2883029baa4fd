"""TextonBoost with every step differentiable: filters, textons, texture-layout features, soft stumps."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kseg.checks import check_choice, flag
from kseg.errors import UsageError
from kseg.layers import BatchNormalization, FixedScale
from kseg.layers.color import RGBToLab
from kseg.layers.filter_bank import FilterBank
from kseg.layers.mirror import MirrorBorder
from kseg.layers.textons import Textons
from kseg.layers.texture_layout import SoftStumps, TextureLayout
from kseg.models.parts.blocks import check_whole, classify, image_input
from kseg.models.registry import register

HEADS = ("stumps", "linear", "mlp")
# Spread of the filters' responses on photographs, in order of size: what the whitening starts from.
OFFSET = {"gaussian_1_L": 45.0, "gaussian_2_L": 45.0, "gaussian_4_L": 45.0}
SPREAD = {"L": 25.0, "a": 8.0, "b": 12.0, "derivative": 4.0, "laplacian": 5.0}


def _spread(name: str) -> float:
    """Typical standard deviation of the response called `name`."""
    kind, *_, channel = name.split("_")
    return SPREAD[channel if kind == "gaussian" else kind]


def _head(x: Any, head: str, hidden: int, seed: int) -> Any:
    """What stands between the features and the linear classifier."""
    if head == "stumps":
        x = SoftStumps(seed=seed, name="stumps")(x)
    elif head == "mlp":
        x = layers.Conv2D(hidden, 1, activation="relu", kernel_initializer="he_normal", name="hidden")(x)
    return x


@register(
    paper="Shotton, Winn, Rother, Criminisi, TextonBoost, ECCV 2006 and IJCV 2009; here trained by gradients",
    output_stride=5,
    # Differences of small colour values, for which eight bits are coarse.
    keep_float="lab|filter_bank|textons",
    # Whitening and textons were found on the responses of these filters.
    learned_with=("kappa", "quirks"),
)
def TextonBoost(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    textons: int = 400,
    rectangles: int = 100,
    features: int = 5000,
    head: str = "stumps",
    grid: int = 5,
    texton_stride: int = 5,
    smallest: int = 5,
    largest: int = 200,
    kappa: float = 1.0,
    quirks: bool = False,
    learn_textons: bool = False,
    hidden: int = 256,
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """TextonBoost: shares of textons in rectangles around a pixel tell its class.

    A bank of 17 filters on CIELab, a dictionary of textons, their shares in random rectangles around the
    points of a grid, and a classifier on these, enlarged to the image. The filters are fixed; whitening and
    textons are found on training images (`Textons.adapt`), and the assignment to textons goes from soft to
    hard while the rest is trained (`Textons.anneal`): `kseg train` does both. What boosting chooses one by
    one, a linear layer over all features weighs at once. The file of the best epoch keeps that epoch's
    temperature (`model.get_layer("textons").temperature`): hard only if it was among the last.

    The paper's form assigns every pixel to a texton (`texton_stride=1`), which takes `4 * textons` bytes per
    pixel several times over; by default one pixel in each 5 x 5 block is assigned, and the rectangles are
    rounded to whole blocks. Eight bits are coarse for the filters: for int8 export with
    `keep_float="lab|filter_bank|textons"`.

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        textons: size of the dictionary; 400 in the paper.
        rectangles: number of random rectangles; each is paired with `features / rectangles` textons.
        features: number of (rectangle, texton) pairs, a multiple of `rectangles`.
        head: `"stumps"` (a soft stump per feature with a learned threshold, then linear: boosting's soft
            twin), `"linear"` (105,021 parameters from 5,000 features to 21 classes) or `"mlp"`.
        grid: distance in pixels of the points that are classified; 5 for MSRC, 7 for VOC in Krähenbühl's
            code.
        texton_stride: distance in pixels of the texton assignments; divides `grid`.
        smallest: shortest side of a rectangle in pixels; 5 in the code.
        largest: longest side; 200 in the code, for images of 320 x 213. Rectangles lie within half of it
            around the point (100 pixels in the paper).
        kappa: factor on the sigmas of the filters.
        quirks: the sigmas that the code really uses; see `kseg.layers.filter_bank.scales`.
        learn_textons: whether the textons are trained on after k-means, which takes longer steps; by default
            they stay, as in the paper.
        hidden: units of the hidden layer of `"mlp"`.
        seed: of rectangles, pairs, thresholds and textons.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`. Images must have
        the default normalisation (0-255 to [-1, 1]).

    Raises:
        UsageError: for a value out of range, or numbers that do not divide each other.

    Example:
        >>> model = TextonBoost(num_classes=11, textons=64, rectangles=40, features=600, largest=100)
    """
    check_choice("head", head, HEADS, "TextonBoost")
    flag(learn_textons, "TextonBoost: argument", "learn_textons")
    for argument, value in (("grid", grid), ("texton_stride", texton_stride), ("hidden", hidden)):
        check_whole("TextonBoost", argument, value)
    if grid % texton_stride:
        raise UsageError(
            "TextonBoost: argument `grid` must be a multiple of `texton_stride`, so that its points stand on "
            f"textons. Received: grid={grid}, texton_stride={texton_stride}"
        )
    image = image_input(input_shape)
    bank = FilterBank(kappa, texton_stride, quirks, name="filter_bank")
    x = RGBToLab(name="lab")(image)
    x = bank(MirrorBorder(bank.radius, bank.radius, grid, name="border")(x))
    x = Textons(
        textons,
        offset=tuple(OFFSET.get(response, 0.0) for response in bank.names),
        scale=tuple(_spread(response) for response in bank.names),
        learnable=learn_textons,
        seed=seed,
        name="textons",
    )(x)
    x = TextureLayout(
        features,
        rectangles,
        grid // texton_stride,
        smallest,
        largest,
        texton_stride,
        seed,
        name="texture_layout",
    )(x)
    # Now 1 is the share that a texton has by chance, and the variance is far above epsilon.
    x = FixedScale(textons, name="relative")(x)
    x = BatchNormalization(center=False, scale=False, momentum=0.9, name="features")(x)
    x = _head(x, head, hidden, seed)
    return keras.Model(image, classify(x, image, num_classes, grid), name=name or "textonboost")
