"""LR-ASPP over MobileNetV3: a segmentation head that costs next to nothing."""

from __future__ import annotations

import keras
from keras import layers

from kseg import encoders
from kseg.errors import check_choice
from kseg.layers import BilinearUpsampling, CropLike
from kseg.layers.widths import channels
from kseg.models.parts.blocks import conv_bn_relu, image_input
from kseg.models.registry import register

HEAD = 128
# Variant -> (block of the encoder's stride-8 stage that is scored, epsilon of the head's normalisation).
VARIANTS = {"torchvision": ("first", 1e-5), "late": ("last", 1e-3)}


@register(
    paper="Howard et al., Searching for MobileNetV3, ICCV 2019, section 6.4; head as in torchvision",
    output_stride=8,
    aliases=("lr-aspp", "lraspp-mobilenetv3"),
    learned_with=("variant",),
    before={"variant": "late"},
)
def LRASPP(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    encoder: str = "mobilenetv3",
    weights: str | None = None,
    width: float = 1.0,
    dropout: float = 0.0,
    variant: str = "torchvision",
    name: str | None = None,
) -> keras.Model:
    """LR-ASPP: deep features gated by their mean, scored at stride 8 together with the stride-8 features.

    Over MobileNetV3-Large, whose last stage is dilated so that the deep features have stride 16. 3,221,538
    trainable parameters at 21 classes, as in torchvision; and torchvision's numbers, except that Keras'
    strided convolutions pad an even side at the bottom and right, PyTorch's at the top and left. (An image
    turned by 180 degrees, with kernels turned alike, gives torchvision's logits, turned.)

    Args:
        input_shape: `(H, W, 3)`; H and W may be None (any size).
        num_classes: number of logits per pixel.
        encoder: a name of `kseg.encoders`. One that cannot be dilated is used at stride 32.
        weights: of the encoder: None, `"imagenet"` or a path.
        width: factor on the channel counts (MobileNetV3's alpha); the head keeps 128 channels down to
            width 1, and is thinned below.
        dropout: share of the head's features that is dropped in training, in [0, 1).
        variant: `"torchvision"`: the low score sees the first block of stride 8, and the head normalises with
            an epsilon of 1e-5; `"late"`: the last block, 1e-3, which is what files of kseg that do not name
            the variant hold. The blocks differ for MobileNetV3 only.
        name: name of the Keras model.

    Returns:
        Functional model: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, num_classes)`.

    Raises:
        UsageError: for a value out of range.

    Example:
        >>> model = LRASPP(input_shape=(360, 480, 3), num_classes=11, weights="imagenet")
    """
    check_choice("variant", variant, tuple(VARIANTS), "LRASPP")
    block, epsilon = VARIANTS[variant]
    image = image_input(input_shape)
    features = encoders.features(encoder, image, at_most=16, stage_block=block, weights=weights, width=width)
    deepest = max(features)
    head = channels(HEAD, min(width, 1.0))
    x = conv_bn_relu(features[deepest], head, 1, epsilon=epsilon, name="head")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="gate_pool")(features[deepest])
    gate = layers.Conv2D(head, 1, use_bias=False, activation="sigmoid", name="gate_weights")(gate)
    x = layers.Multiply(name="gate")([x, gate])
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    x = BilinearUpsampling(deepest // 8, name="head_upsample")(x)
    high = layers.Conv2D(num_classes, 1, dtype="float32", name="score_high")(x)
    low = layers.Conv2D(num_classes, 1, dtype="float32", name="score_low")(features[8])
    x = layers.Add(dtype="float32", name="score")([high, low])
    x = BilinearUpsampling(8, dtype="float32", name="upsample_score")(x)
    logits = CropLike(dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or "lraspp")
