"""ResUNet: a residual U-shaped network that trains from scratch within an hour on a laptop's processor.

Its decoder runs over any other encoder, too.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from kseg import encoders
from kseg.layers import BilinearUpsampling, PadToStride
from kseg.layers.widths import channels
from kseg.models.parts.blocks import classify, conv_bn_relu, image_input, load_own_weights
from kseg.models.parts.residual import residual_features
from kseg.models.registry import register

DECODER = (128, 128, 64, 32)  # strides 16, 8, 4, 2


def _gate(x: Any, name: str) -> Any:
    """Weight each channel by a sigmoid of the whole image's mean features."""
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    weights = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_weights")(weights)
    return layers.Multiply(name=name)([x, weights])


@register(
    paper="after Ronneberger et al., U-Net, MICCAI 2015 and He et al., Deep Residual Learning, CVPR 2016",
    output_stride=2,
    aliases=("res-u-net",),
    before={"encoder": None},
)
def ResUNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.1,
    name: str | None = None,
    encoder: str | None = None,
) -> keras.Model:
    """Residual U-shaped network for training from scratch on a small set, fast in bfloat16.

    A stem at stride 2, two basic residual blocks at each of the strides 4, 8, 16 and 32, a gate over
    channels from the whole image's mean, and a decoder that halves the stride four times: 1x1 to the
    stage's width on the coarse grid, bilinear enlargement, skip by concatenation, 3x3. Scored at
    stride 2, enlarged bilinearly.

    With an `encoder`, gate and decoder stand over that one, for example EfficientNet-Lite0 with its ImageNet
    weights, which was made for int8.

    Args:
        input_shape: `(H, W, channels)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        weights: None, or the path of a weights file of this network; with an `encoder`, those of the encoder:
            None, `"imagenet"` or a path.
        width: factor on all channel counts.
        dropout: share of the last features that is dropped in training, in [0, 1).
        name: name of the Keras model.
        encoder: None (the residual one) or a name of `kseg.encoders`.

    Returns:
        Functional model: float32 `(B, H, W, channels)` -> float32 logits `(B, H, W, num_classes)`.

    Example:
        >>> model = ResUNet(input_shape=(240, 320, 3), num_classes=11)
        >>> model = ResUNet(num_classes=11, encoder="efficientnetlite0", weights="imagenet")
    """
    image = image_input(input_shape)
    if encoder is None:
        features = residual_features(PadToStride(32, name="pad")(image), width)
    else:
        features = encoders.features(encoder, image, weights=weights, width=width)
    x = _gate(features[32], "gate")
    for stage, count in enumerate(DECODER, start=1):
        filters = channels(count, width)
        x = conv_bn_relu(x, filters, 1, name=f"decoder{stage}_reduce")
        x = BilinearUpsampling(2, name=f"decoder{stage}_upsample")(x)
        if (stride := 32 >> stage) in features:
            x = layers.Concatenate(name=f"decoder{stage}_skip")([x, features[stride]])
        x = conv_bn_relu(x, filters, name=f"decoder{stage}")
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    model = keras.Model(image, classify(x, image, num_classes, 2), name=name or "resunet")
    if encoder is None:
        load_own_weights(model, weights)
    return model
