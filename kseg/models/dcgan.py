"""DCGAN's generator: a picture made of noise by four fractionally strided convolutions.

No segmentation network: it takes no image, so it is not in the table of `kseg.models.create`. It is the
worked example of learned up-sampling without bilinear kernels (docs/upsampling.md).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kseg.checks import check_choice
from kseg.layers import BatchNormalization, TransposedConv
from kseg.layers.widths import channels
from kseg.models.parts.blocks import check_whole
from kseg.models.registry import WIDTHS

SEED_SIZE = 4
CHANNELS = (1024, 512, 256, 128)
KERNEL = 5
NORMALIZED = ("units", "channels")
SPREAD = 0.02  # standard deviation of every initial weight


def DCGANGenerator(
    z: int = 100,
    image_channels: int = 3,
    width: float = 1.0,
    normalized: str = "units",
    name: str = "dcgan_generator",
) -> keras.Model:
    """Build DCGAN's generator: noise -> 4x4 -> 8 -> 16 -> 32 -> 64 pixels. 18,885,760 parameters.

    Each enlargement is a transposed convolution of kernel 5, stride 2, padding 2, output padding 1, without
    bias; batch normalisation and ReLU follow all but the last, which ends in tanh.

    Args:
        z: numbers of noise, in the paper uniform in [-1, 1].
        image_channels: channels of the picture.
        width: factor on all other channel counts.
        normalized: what the first batch normalisation keeps statistics of: the 16,384 `"units"` of the dense
            layer (the authors' code), or the 1,024 `"channels"` after the reshape (18,855,040 parameters).
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, z)` -> float32 `(B, 64, 64, image_channels)` in [-1, 1].

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> pictures = DCGANGenerator()(keras.random.uniform((8, 100), -1, 1))

    Reference:
        Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
        Adversarial Networks", ICLR 2016, section 3 and figure 1; layer sizes of the authors' code.
    """
    for argument, value in (("z", z), ("image_channels", image_channels)):
        check_whole("DCGANGenerator", argument, value)
    WIDTHS.check(width, "width", "DCGANGenerator: argument")
    check_choice("normalized", normalized, NORMALIZED, "DCGANGenerator")
    counts = [channels(count, width) for count in CHANNELS]
    noise = keras.Input((z,), dtype="float32", name="noise")
    x = layers.Dense(
        SEED_SIZE * SEED_SIZE * counts[0], use_bias=False, kernel_initializer=_weights(), name="project"
    )(noise)
    seed = layers.Reshape((SEED_SIZE, SEED_SIZE, counts[0]), name="seed")
    # Normalising first keeps statistics of every unit, normalising after of every channel.
    steps = [_normalization("project_bn"), seed]
    for layer in steps if normalized == "units" else reversed(steps):
        x = layer(x)
    x = layers.ReLU(name="project_relu")(x)
    for index, count in enumerate(counts[1:], start=1):
        x = _enlarge(x, count, f"enlarge{index}")
        x = layers.ReLU(name=f"enlarge{index}_relu")(_normalization(f"enlarge{index}_bn")(x))
    x = _enlarge(x, image_channels, f"enlarge{len(counts)}")
    picture = layers.Activation("tanh", dtype="float32", name="picture")(x)
    return keras.Model(noise, picture, name=name)


def _enlarge(x: Any, filters: int, name: str) -> Any:
    """Twice the height and width."""
    layer = TransposedConv(
        filters,
        KERNEL,
        strides=2,
        padding=2,
        output_padding=1,
        bilinear=False,
        kernel_initializer=_weights(),
        name=name,
    )
    return layer(x)


def _weights() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(0.0, SPREAD)


def _normalization(name: str) -> keras.layers.Layer:
    scale = keras.initializers.RandomNormal(1.0, SPREAD)
    return BatchNormalization(momentum=0.9, gamma_initializer=scale, name=name)
