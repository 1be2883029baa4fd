"""Encoders from `keras.applications`, rebuilt layer by layer on the image tensor of our network.

Rebuilding (instead of nesting their model) keeps one flat graph with the original layer names, lets the
last stages be dilated instead of strided without touching any weight, and puts our faster batch
normalisation in the place of Keras'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kseg.checks import check_choice
from kseg.encoders.stack import Stack
from kseg.layers import BatchNormalization

# Moving statistics of the published configurations (0.99, 0.999) lag behind a short training from nothing by
# hundreds of steps, so that inference fails while training succeeds.
_SCRATCH_MOMENTUM = 0.9

# The blocks of MobileNetV3's stages of stride 2, 4, 8, 16; None: the stem.
_STAGES: dict[str, dict[str, tuple[int | None, ...]]] = {
    "Large": {"first": (0, 1, 3, 6), "last": (0, 2, 5, 11)},
    "Small": {"first": (None, 0, 1, 3), "last": (None, 0, 2, 7)},
}

# What becomes of one layer: changes to its configuration, or None to leave the layer out.
Rewrite = Callable[[Any], Mapping[str, Any] | None]


def _unchanged(layer: Any) -> Mapping[str, Any]:
    return {}


def graft(
    stack: Stack, base: keras.Model, x: Any, taps: Mapping[int, str], rewrite: Rewrite = _unchanged
) -> dict[int, Any]:
    """Rebuild `base` on the tensor `x` with new layers; return the outputs of the layers in `taps`.

    Args:
        stack: names and remembers the new layers.
        base: a functional model with one image input; it is not changed.
        x: `(B, H, W, 3)`.
        taps: stride -> name of the layer whose output is that feature.
        rewrite: see `Rewrite`.
    """
    outputs: dict[str, Any] = {}

    def copy(operation: Any) -> Any:
        changes = rewrite(operation)
        if changes is None:
            return None
        config = {**operation.get_config(), **changes}
        plain_name = config["name"]
        config["name"] = stack.prefix + plain_name
        kind = operation.__class__
        if kind is keras.layers.BatchNormalization:
            kind = BatchNormalization
            config["momentum"] = min(config["momentum"], _SCRATCH_MOMENTUM if stack.scratch else 1.0)
        made = kind.from_config(config)
        if isinstance(made, keras.layers.Layer):
            stack.layers[plain_name] = made
        return made

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is None:
            return args[0]
        result = operation(*args, **kwargs)
        outputs[operation.name] = result
        return result

    keras.models.clone_model(base, input_tensors=x, clone_function=copy, call_function=call)
    return {stride: outputs[stack.prefix + name] for stride, name in taps.items()}


def mobilenetv3(
    stack: Stack, x: Any, *, size: str = "Large", output_stride: int = 32, stage_block: str = "last"
) -> dict[int, Any]:
    """Build MobileNetV3. `width` is Keras' `alpha`.

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        size: `"Large"` or `"Small"`.
        output_stride: 32, or 16: the last stage is dilated by 2 instead of strided (as LR-ASPP has it),
            with the same weights.
        stage_block: `"last"` or `"first"`: which block of a stage is the feature of its stride (torchvision's
            LR-ASPP takes the first).

    Returns:
        Features at strides 2, 4, 8, 16 and, with output stride 32, 32. The deepest is the last convolution
        (960 channels for Large at full width, 576 for Small); the stride-2 feature of Small is the stem.

    Reference:
        Howard et al., "Searching for MobileNetV3", 2019.
    """
    check_choice("stage_block", stage_block, ("last", "first"), "mobilenetv3")
    base = base_model(f"MobileNetV3{size}", alpha=stack.width)
    last_strided = {"Large": 12, "Small": 8}[size]
    taps = _STAGES[size][stage_block]
    # The activations behind the stem and the last convolution have no name of their own.
    activations = [op.name for op in base.layers if isinstance(op, keras.layers.Activation)]
    names = {stride: _block_end(base, block) for stride, block in zip((2, 4, 8, 16), taps, strict=True)}
    if size == "Small":
        names[2] = activations[0]
    names[output_stride] = activations[-1]

    def dilate(operation: Any) -> Mapping[str, Any] | None:
        match = re.match(r"expanded_conv_(\d+)_depthwise(_pad)?$", operation.name)
        if output_stride == 32 or not match or int(match[1]) < last_strided:
            return {}
        return None if match[2] else {"strides": (1, 1), "padding": "same", "dilation_rate": (2, 2)}

    return graft(stack, base, x, names, dilate)


def _block_end(base: keras.Model, block: int | None) -> str:
    """Name of the last layer of a MobileNetV3 block; its addition where it has one."""
    prefix = "expanded_conv_" if not block else f"expanded_conv_{block}_"
    known = {layer.name for layer in base.layers}
    return f"{prefix}add" if f"{prefix}add" in known else f"{prefix}project_bn"


def resnet(stack: Stack, x: Any, *, depth: int = 50, output_stride: int = 32) -> dict[int, Any]:
    """Build ResNet-50, 101 or 152 (bottleneck blocks).

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        depth: 50, 101 or 152.
        output_stride: 32; 16 or 8 dilate the last one or two stages instead, with the same weights.

    Returns:
        Features at strides 2 (stem), 4, 8, 16, 32. A dilated stage takes the place of the one before it, so
        that the dictionary ends at `output_stride`.
    """
    base = base_model(f"ResNet{depth}")
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    names = {2: "conv1_relu"}
    dilation = {}
    for stage, count in enumerate(blocks, start=2):
        stride = 2**stage
        dilation[stage] = max(1, stride // output_stride)
        names[min(stride, output_stride)] = f"conv{stage}_block{count}_out"

    def dilate(operation: Any) -> Mapping[str, Any]:
        match = re.match(r"conv(\d)_block(\d+)_(\d)_conv$", operation.name)
        if not match or dilation[int(match[1])] == 1:
            return {}
        rate = dilation[int(match[1])] if match[3] == "2" else 1
        return {"strides": (1, 1), "dilation_rate": (rate, rate)}

    return graft(stack, base, x, names, dilate)


def efficientnetv2(stack: Stack, x: Any, *, variant: str = "B0") -> dict[int, Any]:
    """Build EfficientNetV2 up to its last block (the 1280-channel classifier layer is left out).

    Args:
        stack: makes and names the layers.
        x: `(B, H, W, 3)`.
        variant: `"B0"`-`"B3"`, `"S"`, `"M"`, `"L"`.

    Returns:
        Features at strides 2, 4, 8, 16, 32.

    Reference:
        Tan, Le, "EfficientNetV2: Smaller Models and Faster Training", 2021.
    """
    base = base_model(f"EfficientNetV2{variant}")
    last = {}
    for layer in base.layers:
        match = re.match(r"block(\d)[a-z]+_", layer.name)
        if match:
            last[int(match[1])] = layer.name
    stages = {2: 1, 4: 2, 8: 3, 16: 5, 32: max(last)}
    return graft(stack, base, x, {stride: last[stage] for stride, stage in stages.items()})


def base_model(name: str, **kwargs: Any) -> keras.Model:
    """Make a model of `keras.applications` without classifier, rescaling and weights."""
    if name.startswith(("MobileNetV3", "EfficientNetV2")):
        kwargs["include_preprocessing"] = False
    build = getattr(keras.applications, name)
    return build(include_top=False, input_shape=(None, None, 3), **{"weights": None, **kwargs})
