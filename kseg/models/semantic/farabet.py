"""Farabet's multi-scale convolutional network: one extractor on every level of a Laplacian pyramid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from kseg.checks import check_choice
from kseg.errors import UsageError
from kseg.layers import (
    ConnectionTableConv2D,
    LaplacianPyramid,
    LocalNormalization,
    MirrorBorder,
    RGBToYUV,
)
from kseg.layers.widths import channels
from kseg.models.parts.blocks import check_whole, classify, image_input, load_own_weights
from kseg.models.registry import register

MAPS = (16, 64, 256)  # of the three stages
KERNEL = 7
STRIDE = 4  # of the extractor: two poolings of 2
# What one feature sees of its level: convolution, pooling, 6 steps of 2, pooling by 2, 6 steps of 4.
RECEPTIVE_FIELD = KERNEL + 1 + 2 * (KERNEL - 1) + 2 + 4 * (KERNEL - 1)


def chroma_table(maps: int, chroma: str) -> list[list[int]]:
    """Return which of Y, U, V (0, 1, 2) each map of the first stage sees.

    Args:
        maps: number of maps; of every 16, ten see Y and six see colour.
        chroma: `"split"`: half of the colour maps see U, half V; `"both"`: all of them see U and V.
    """
    half = round(3 * maps / 16)
    colour = [[1]] * half + [[2]] * half if chroma == "split" else [[1, 2]] * (2 * half)
    return [[0]] * (maps - 2 * half) + colour


def _extractor(width: float, chroma: str, seed: int) -> list[layers.Layer]:
    """The layers that all levels share."""
    first, second, third = (channels(maps, width) for maps in MAPS)
    return [
        ConnectionTableConv2D(first, KERNEL, table=chroma_table(first, chroma), name="conv1"),
        # tanh never changes which value is the largest, so it is taken of a quarter of the values, after the
        # pooling: the same numbers as in the paper's order.
        layers.MaxPooling2D(2, name="pool1"),
        layers.Activation("tanh", name="tanh1"),
        ConnectionTableConv2D(second, KERNEL, fan_in=first // 2, seed=seed, name="conv2"),
        layers.MaxPooling2D(2, name="pool2"),
        layers.Activation("tanh", name="tanh2"),
        ConnectionTableConv2D(third, KERNEL, fan_in=second // 2, seed=seed + 1, name="conv3"),
    ]


def _check(scales: int, hidden: int, window: int, shape: tuple) -> None:
    counts = {"scales": scales, "hidden": hidden, "window": window}
    for argument, value in counts.items():
        check_whole("FarabetNet", argument, value)
    if scales > 6:
        raise UsageError(f"FarabetNet: argument `scales` must be at most 6. Received: scales={scales}")
    if shape[-1] != 3:
        raise UsageError(
            "FarabetNet computes Y, U and V, so argument `input_shape` must have 3 channels (repeat a grey "
            f"channel three times). Received: input_shape={shape!r}"
        )


@register(
    paper="Farabet, Couprie, Najman, LeCun, Learning Hierarchical Features for Scene Labeling, TPAMI 2013",
    output_stride=STRIDE,
    aliases=("farabet", "multiscale-convnet"),
)
def FarabetNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    scales: int = 3,
    classifier: str = "linear",
    hidden: int = 1024,
    chroma: str = "split",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.0,
    window: int = 15,
    seed: int = 0,
    normalization: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Farabet's multi-scale net: the same three stages see an image at sizes 1, 1/2 and 1/4.

    The image becomes Y, U, V and a Laplacian pyramid, each level locally normalised. Every level goes
    through one extractor (7x7 convolutions to 16, 64 and 256 maps over connection tables, tanh, two
    max-poolings), whose 46 pixels are 46, 92 and 184 of the image. The maps, enlarged by repetition to the
    finest one, make 768 features per position at a quarter of the resolution (layer `"features"`); a
    classifier follows. 427,616 parameters in the extractor, 6,152 (linear) or 795,656 (MLP) in the classifier
    of 8 classes.

    The paper trains in two steps. First `classifier="linear"`, all of it; then `classifier="mlp"` from that
    file (`init_from`: the extractor's layers have the same names and shapes, given one `width` and `seed`)
    with the extractor fixed, `freeze="^conv[123]$"`. It draws single pixels, either with natural frequencies
    or as many of each class: `sampling="pixels"` and `"balanced-pixels"` keep the labels of the drawn pixels
    only, which is the same as training on patches around them. SGD, learning rate 1e-3, weight decay 1e-5;
    flips, rotation by 8 degrees, scales 0.9 to 1.1.

    Any size from 1x1: the image is mirrored at the bottom and right to a multiple of `4 * 2 ** (scales - 1)`,
    and each normalised level is padded with 21 zeros, the local mean, on all sides.

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        scales: levels of the pyramid, 1 to 6. 1 is the single-scale twin: the normalised image itself.
        classifier: `"linear"`, or `"mlp"` with one layer of tanh.
        hidden: units of the MLP; 1024 is the paper's.
        chroma: what the 6 colour maps of the first stage see: `"split"`, 3 of them U and 3 V; `"both"`, each
            of them U and V (427,910 parameters in the extractor).
        weights: None, or a weights file of this network.
        width: factor on all channel counts; a map of the second or third stage sees half of the maps below,
            as 8 of 16 and 32 of 64.
        dropout: share of the features that is dropped in training, in [0, 1). The paper has none.
        window: side of the neighbourhood of the local normalisation, odd; 15 is the paper's.
        seed: of the two random connection tables.
        normalization: what the images have had: `{"order", "mean", "std"}` as in `kseg.spec.Normalization`;
            None: its defaults.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = FarabetNet(num_classes=8, classifier="mlp")
        >>> features = keras.Model(model.input, model.get_layer("features").output)
    """
    check_choice("classifier", classifier, ("linear", "mlp"), "FarabetNet")
    check_choice("chroma", chroma, ("split", "both"), "FarabetNet")
    _check(scales, hidden, window, tuple(input_shape))
    image = image_input(input_shape)
    x = MirrorBorder(0, 0, STRIDE * 2 ** (scales - 1), name="pad")(image)
    x = RGBToYUV(normalization, name="yuv")(x)
    levels = LaplacianPyramid(scales, name="pyramid")(x)
    extractor = _extractor(width, chroma, seed)
    maps = []
    for level, x in enumerate(levels):
        x = LocalNormalization(window, name=f"normalize{level}")(x)
        # The margin makes n / 4 features of n pixels.
        x = layers.ZeroPadding2D((RECEPTIVE_FIELD - STRIDE) // 2, name=f"margin{level}")(x)
        for layer in extractor:
            x = layer(x)
        if level:
            x = layers.UpSampling2D(2**level, interpolation="nearest", name=f"enlarge{level}")(x)
        maps.append(x)
    x = layers.Concatenate(name="features")(maps) if scales > 1 else layers.Identity(name="features")(maps[0])
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    if classifier == "mlp":
        x = layers.Conv2D(channels(hidden, width), 1, activation="tanh", name="hidden")(x)
    model = keras.Model(image, classify(x, image, num_classes, STRIDE), name=name or "farabetnet")
    load_own_weights(model, weights)
    return model
