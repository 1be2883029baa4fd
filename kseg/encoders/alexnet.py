"""AlexNet in the form of CaffeNet (pooling before normalisation), without its classifier.

Reference:
    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.
    Layer table as in FCN's `voc-fcn-alexnet`: 2,334,080 parameters.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from kseg.encoders.stack import Stack
from kseg.errors import UsageError
from kseg.layers import CeilMaxPooling2D, GroupedConv2D, LocalResponseNormalization


def alexnet(
    stack: Stack, x: Any, *, first_pad: int = 0, ceil_pools: bool | None = None, valid_first: bool = False
) -> dict[int, Any]:
    """Build AlexNet.

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        first_pad: 0 for "same" padding throughout; 100 is the paper form of FCN-AlexNet, with a "valid"
            first convolution on the image inside a border of 100 zeros.
        ceil_pools: "valid" pools that round sizes up, as Caffe's do, instead of "same" ones. Default: only
            when `first_pad` is set.
        valid_first: the first convolution is "valid" without a border, as CaffeNet's on crops of 227 x 227.

    Returns:
        Features at strides 4 (conv1), 8 (after the first pool), 16 and 32 (pool5).
    """
    if first_pad < 0:
        raise UsageError(f"alexnet `first_pad` must not be negative. Received: first_pad={first_pad!r}")
    caffe_pools = first_pad > 0 if ceil_pools is None else ceil_pools

    def convolution(x: Any, name: str, channels: int, kernel: int, groups: int = 1, **kwargs: Any) -> Any:
        return stack.add(
            GroupedConv2D if groups > 1 else layers.Conv2D,
            stack.channels(channels),
            kernel,
            activation="relu",
            kernel_initializer="he_uniform",
            name=name,
            **{"padding": "same", **({"groups": groups} if groups > 1 else {}), **kwargs},
        )(x)

    def pool(x: Any, name: str) -> Any:
        if caffe_pools:
            return stack.add(CeilMaxPooling2D, 3, 2, name=name)(x)
        return stack.add(layers.MaxPooling2D, 3, 2, padding="same", name=name)(x)

    if first_pad:
        x = stack.add(layers.ZeroPadding2D, first_pad, name="conv1_pad")(x)
    conv1 = convolution(
        x, "conv1", 96, 11, strides=4, padding="valid" if first_pad or valid_first else "same"
    )
    norm1 = stack.add(LocalResponseNormalization, name="norm1")(pool(conv1, "pool1"))
    conv2 = convolution(norm1, "conv2", 256, 5, groups=2)
    norm2 = stack.add(LocalResponseNormalization, name="norm2")(pool(conv2, "pool2"))
    x = convolution(norm2, "conv3", 384, 3)
    x = convolution(x, "conv4", 384, 3, groups=2)
    x = convolution(x, "conv5", 256, 3, groups=2)
    return {4: conv1, 8: norm1, 16: norm2, 32: pool(x, "pool5")}
