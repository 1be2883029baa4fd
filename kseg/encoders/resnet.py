"""ResNet-18: the small residual encoder. 11,176,512 trainable parameters at full width.

Reference:
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, table 1 (basic blocks,
    projection shortcuts where the shape changes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from kseg.checks import check_choice
from kseg.encoders.stack import Stack
from kseg.errors import UsageError
from kseg.layers import BatchNormalization

_STEMS = ("conv7", "conv3")


def _convolution(stack: Stack, x: Any, name: str, channels: int, kernel: int, stride: int = 1) -> Any:
    """Convolution without bias and batch normalisation; no activation."""
    x = stack.add(
        layers.Conv2D,
        channels,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return stack.add(BatchNormalization, momentum=0.9, epsilon=1.001e-5, name=f"{name}_bn")(x)


def _relu(stack: Stack, x: Any, name: str) -> Any:
    return stack.add(layers.ReLU, name=f"{name}_relu")(x)


def _basic_block(stack: Stack, x: Any, name: str, channels: int, stride: int) -> Any:
    shortcut = x
    if stride != 1 or x.shape[-1] != channels:
        shortcut = _convolution(stack, x, f"{name}_0", channels, 1, stride)
    x = _relu(stack, _convolution(stack, x, f"{name}_1", channels, 3, stride), f"{name}_1")
    x = _convolution(stack, x, f"{name}_2", channels, 3)
    return _relu(stack, stack.add(layers.Add, name=f"{name}_add")([shortcut, x]), name)


def resnet18(
    stack: Stack, x: Any, *, stem: str = "conv7", channels: Sequence[int] = (64, 128, 256, 512)
) -> dict[int, Any]:
    """Build ResNet-18.

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        stem: `"conv7"`: the paper's 7x7 convolution of stride 2 and max-pooling. `"conv3"`: two 3x3
            convolutions at stride 2 with half the channels, and a strided first stage in place of the
            pooling, which keeps finer detail at stride 2 for U-shaped decoders.
        channels: channels of the four stages, before `width`.

    Returns:
        Features at strides 2 (stem), 4, 8, 16, 32.
    """
    check_choice("stem", stem, _STEMS, "resnet18")
    if len(channels) != 4:
        raise UsageError(f"resnet18 `channels` must be four numbers. Received: channels={channels!r}")
    counts = [stack.channels(count) for count in channels]
    features = {}
    if stem == "conv7":
        x = _relu(stack, _convolution(stack, x, "conv1", counts[0], 7, 2), "conv1")
        features[2] = x
        x = stack.add(layers.MaxPooling2D, 3, 2, padding="same", name="pool1")(x)
    else:
        half = max(8, counts[0] // 2)
        x = _relu(stack, _convolution(stack, x, "conv1a", half, 3, 2), "conv1a")
        x = _relu(stack, _convolution(stack, x, "conv1b", half, 3), "conv1b")
        features[2] = x
    for stage, count in enumerate(counts):
        strided = stage > 0 or stem == "conv3"
        x = _basic_block(stack, x, f"conv{stage + 2}_block1", count, 2 if strided else 1)
        x = _basic_block(stack, x, f"conv{stage + 2}_block2", count, 1)
        features[4 * 2**stage] = x
    return features
