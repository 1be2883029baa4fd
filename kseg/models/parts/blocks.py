"""Small pieces that several networks share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers

from kseg.checks import whole
from kseg.errors import UsageError
from kseg.layers import BatchNormalization, BilinearUpsampling, CropLike, Subsample

# The gradient of a strided 1x1 convolution of fewer channels writes beyond its memory in TensorFlow 2.21 on
# CPUs (oneDNN). Pixels taken before an unstrided one give the same.
ONEDNN_CHANNELS = 16


def check_whole(network: str, argument: str, value: Any, minimum: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum`.

    Raises:
        UsageError: naming network, argument and what was received.
    """
    return whole(value, f"{network}: argument", argument, minimum)


def conv_bn_relu(
    x: Any,
    filters: int,
    kernel_size: int = 3,
    strides: int = 1,
    *,
    activation: bool = True,
    epsilon: float = 1e-3,
    name: str,
) -> Any:
    """Convolution ("same", no bias) -> batch normalisation -> ReLU (unless `activation` is False).

    Args:
        x: `(B, H, W, C)`.
        epsilon: of the normalisation, added to the variance.

    Returns:
        `(B, ceil(H / strides), ceil(W / strides), filters)`.
    """
    if kernel_size == 1 and strides > 1 and x.shape[-1] < ONEDNN_CHANNELS:
        x, strides = Subsample(strides, name=f"{name}_subsample")(x), 1
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = BatchNormalization(momentum=0.9, epsilon=epsilon, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


def classify(x: Any, image: Any, num_classes: int, factor: int) -> Any:
    """1x1 convolution to classes, bilinear enlargement by `factor`, crop to the image's size.

    All in float32, whatever the precision policy, because a loss over bfloat16 logits loses the small
    differences between classes.

    Args:
        x: `(B, h, w, C)` features at stride `factor`.
        image: `(B, H, W, 3)` the network's input, H <= h * factor.

    Returns:
        `(B, H, W, num_classes)` float32 logits.
    """
    x = layers.Conv2D(num_classes, 1, dtype="float32", name="score")(x)
    if factor > 1:
        x = BilinearUpsampling(factor, dtype="float32", name="upsample_score")(x)
    return CropLike(dtype="float32", name="logits")([x, image])


def image_input(input_shape: tuple[int | None, int | None, int]) -> Any:
    """Return the network's input, a float32 image `(B, H, W, C)` that is already normalised."""
    return keras.Input(tuple(input_shape), dtype="float32", name="image")


def load_own_weights(model: keras.Model, weights: str | None) -> None:
    """Load a weights file into a network that has an encoder of its own.

    Raises:
        UsageError: for `"imagenet"` (nobody trained this encoder on it) or a file that does not exist.
    """
    if weights is None:
        return
    if not Path(weights).is_file():
        raise UsageError(
            f"{model.name}: argument `weights` must be None or the path of a .weights.h5 file of this "
            f"network (its encoder has no ImageNet weights). Received: weights={weights!r}"
        )
    model.load_weights(weights)
