"""A small residual encoder that trains from scratch within an hour on a laptop's processor."""

from __future__ import annotations

from typing import Any

from keras import layers

from kseg.layers.widths import channels
from kseg.models.parts.blocks import conv_bn_relu

ENCODER = (64, 128, 192, 256)  # strides 4, 8, 16, 32


def _residual(x: Any, filters: int, strides: int, name: str) -> Any:
    """Basic residual block: two 3x3 convolutions and a shortcut, projected where the shape changes."""
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = conv_bn_relu(x, filters, 1, strides, activation=False, name=f"{name}_shortcut")
    x = conv_bn_relu(x, filters, 3, strides, name=f"{name}_1")
    x = conv_bn_relu(x, filters, activation=False, name=f"{name}_2")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_out")(x)


def residual_features(x: Any, width: float, prefix: str = "") -> dict[int, Any]:
    """Return features at strides 2, 4, 8, 16, 32 of a small residual encoder (He et al., CVPR 2016).

    A stem at stride 2, then two basic blocks at each of the other strides: 32, 64, 128, 192, 256 channels,
    times `width`.

    Args:
        x: `(B, H, W, C)`, H and W multiples of 32.
        width: factor on the channels.
        prefix: put before every layer name, for a network with two such encoders.
    """
    stem = channels(32, width)
    x = conv_bn_relu(x, stem, 3, 2, name=f"{prefix}stem_1")
    features = {2: conv_bn_relu(x, stem, name=f"{prefix}stem_2")}
    for stage, count in enumerate(ENCODER, start=1):
        filters = channels(count, width)
        x = _residual(features[2**stage], filters, 2, f"{prefix}encoder{stage}_a")
        features[2 ** (stage + 1)] = _residual(x, filters, 1, f"{prefix}encoder{stage}_b")
    return features
