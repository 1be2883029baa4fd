"""Patch classification: a network that names the pixel in the middle of its patch, run on whole images.

One chain of valid layers is evaluated in three ways that give the same numbers: patch by patch (the patch
form, `kseg.semantic.inference.patch_by_patch`), dense with dilated filters, and by shift-and-stitch.
"""

from __future__ import annotations

import keras

from kseg.layers import RarefiedConv2D, RarefiedMaxPooling2D
from kseg.layers.widths import channels
from kseg.models.parts.chain import Chain
from kseg.models.parts.patchwise import dense_network
from kseg.models.registry import register

# (kernel, maps) of the convolutions with ReLU; a pooling 2x2 stands before each but the first, except where
# the map has become 1x1.
N4_CONVOLUTIONS = ((4, 48), (5, 48), (4, 48), (4, 48))
N4_HIDDEN = (3, 200)
PATCH_NET_CONVOLUTIONS = ((6, 32), (5, 64), (5, 128))
PATCH_NET_HIDDEN = (4, 256)


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
    return dense_network("N4", chain, input_shape, evaluator, output_stride, name, weights)


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
    return dense_network("PatchNet", chain, input_shape, evaluator, output_stride, name, weights)
