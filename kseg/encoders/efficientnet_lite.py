"""EfficientNet-Lite 0, 1 and 2: made for int8 on phones. No squeeze-and-excitation, ReLU6 for swish.

Reference:
    Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite form
    is its authors' release of 2020: stem, and repeats of first and last stage, are not scaled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import layers

from kseg.encoders.stack import Stack
from kseg.encoders.state_dict import read_state_dict
from kseg.errors import DataError
from kseg.layers import BatchNormalization

# repeats, kernel, stride, expansion, channels of each stage of Lite0
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
# number -> factors on channels and on repeats
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
# The last stage at each stride is that stride's feature.
_TAPS = {1: 2, 2: 4, 3: 8, 5: 16, 7: 32}
_PARTS = {
    "_expand_conv": "expand_conv",
    "_bn0": "expand_bn",
    "_depthwise_conv": "depthwise_conv",
    "_bn1": "depthwise_bn",
    "_project_conv": "project_conv",
    "_bn2": "project_bn",
}


def _scaled(count: int, factor: float) -> int:
    """Channels as the authors scale them: to a multiple of 8, never more than a tenth below."""
    if factor == 1:
        return count
    exact = count * factor
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def _normalized(stack: Stack, layer: type[layers.Layer], x: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Convolution without bias and batch normalisation."""
    x = stack.add(layer, *args, padding="same", use_bias=False, name=f"{name}_conv", **kwargs)(x)
    # As published; trained from nothing, statistics must follow within a few hundred steps.
    momentum = 0.9 if stack.scratch else 0.99
    return stack.add(BatchNormalization, momentum=momentum, epsilon=1e-3, name=f"{name}_bn")(x)


def _block(
    stack: Stack, x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int, dilation: int
) -> Any:
    """Inverted residual: expand by 1x1, depthwise, project by 1x1; added to its input where shapes agree."""
    before = x
    if expansion != 1:
        x = _normalized(stack, layers.Conv2D, x, f"{name}_expand", before.shape[-1] * expansion, 1)
        x = stack.add(layers.ReLU, 6.0, name=f"{name}_expand_relu")(x)
    x = _normalized(
        stack,
        layers.DepthwiseConv2D,
        x,
        f"{name}_depthwise",
        kernel,
        strides=stride,
        dilation_rate=dilation,
    )
    x = stack.add(layers.ReLU, 6.0, name=f"{name}_depthwise_relu")(x)
    x = _normalized(stack, layers.Conv2D, x, f"{name}_project", channels, 1)
    if stride == 1 and before.shape[-1] == channels:
        x = stack.add(layers.Add, name=f"{name}_add")([before, x])
    return x


def efficientnet_lite(stack: Stack, x: Any, *, number: int = 0, output_stride: int = 32) -> dict[int, Any]:
    """Build EfficientNet-Lite up to its last block (the 1280-channel classifier layer is left out).

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        number: 0, 1 or 2.
        output_stride: 32, or 16: the last two stages are dilated by 2 instead of strided, with the same
            weights.

    Returns:
        Features at strides 2, 4, 8, 16 and, with output stride 32, 32 (Lite0: 16, 24, 40, 112, 320 channels).
    """
    wider, deeper = _SCALES[number]
    x = _normalized(stack, layers.Conv2D, x, "stem", stack.channels(_STEM), 3, strides=2)
    x = stack.add(layers.ReLU, 6.0, name="stem_relu")(x)
    features: dict[int, Any] = {}
    block, reached, dilation = 0, 2, 1
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES, start=1):
        scaled = stage not in (1, len(_STAGES))
        for index in range(math.ceil(repeats * deeper) if scaled else repeats):
            step = stride if index == 0 else 1
            dense = step > 1 and reached == output_stride
            out = stack.channels(_scaled(channels, wider))
            x = _block(stack, x, f"block{block}", kernel, 1 if dense else step, expansion, out, dilation)
            # The layer that keeps the grid dense sees it as before; those behind it skip what it would have.
            reached, dilation = (reached, dilation * step) if dense else (reached * step, dilation)
            block += 1
        if stage in _TAPS:
            features[min(_TAPS[stage], output_stride)] = x
    return features


def layer_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """Return the weights of this encoder's layers that a PyTorch file holds, in Keras' layouts.

    Args:
        path: a state dict with the names of `efficientnet-lite-pytorch`.

    Raises:
        DataError: if it cannot be read, or has other names.
    """
    found = read_state_dict(path)
    weights: dict[str, list[np.ndarray]] = {}
    for name in found:
        plain = _layer_name(name)
        if plain is None:
            continue
        torch_layer, _, last = name.rpartition(".")
        if plain.endswith("_conv") and last == "weight":
            # (out, in, h, w) -> (h, w, in, out); depthwise (channels, 1, h, w) -> (h, w, channels, 1)
            order = (2, 3, 0, 1) if plain.endswith("depthwise_conv") else (2, 3, 1, 0)
            if found[name].ndim != 4:
                raise DataError(f"'{path}': {name} must have 4 sides. Received: shape {found[name].shape}")
            weights[plain] = [found[name].transpose(order)]
        elif plain.endswith("_bn") and last == "weight":
            weights[plain] = _statistics(found, torch_layer, path)
    if "stem_conv" not in weights:
        raise DataError(f"'{path}' holds no EfficientNet-Lite: it has no _conv_stem.weight")
    return weights


def _layer_name(name: str) -> str | None:
    """Return our layer of an entry such as `_blocks.3._bn1.weight`; None for the classifier's."""
    if name.startswith(("_conv_stem.", "_bn0.")):
        return "stem_conv" if name.startswith("_conv") else "stem_bn"
    match = re.match(r"_blocks\.(\d+)\.(\w+)\.", name)
    if match is None or match[2] not in _PARTS:
        return None
    return f"block{match[1]}_{_PARTS[match[2]]}"


def _statistics(found: Mapping[str, np.ndarray], layer: str, path: Path) -> list[np.ndarray]:
    """Gamma, beta, mean and variance of a batch normalisation."""
    parts = [f"{layer}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    missing = [part for part in parts if part not in found]
    if missing:
        raise DataError(f"'{path}' lacks {missing[0]}")
    return [found[part] for part in parts]
