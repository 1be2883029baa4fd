"""Weights of LR-ASPP by seed, in torchvision's names and layouts: the same numbers for both libraries.

NumPy only: `record.py` reads it where torch is, the test where Keras is.
"""

from __future__ import annotations

import numpy as np

# (kernel, expanded channels, channels, squeeze-excitation) of MobileNetV3-Large's blocks; Howard et al.,
# table 1.
BLOCKS = (
    (3, 16, 16, False),
    (3, 64, 24, False),
    (3, 72, 24, False),
    (5, 72, 40, True),
    (5, 120, 40, True),
    (5, 120, 40, True),
    (3, 240, 80, False),
    (3, 200, 80, False),
    (3, 184, 80, False),
    (3, 184, 80, False),
    (3, 480, 112, True),
    (3, 672, 112, True),
    (5, 672, 160, True),
    (5, 960, 160, True),
    (5, 960, 160, True),
)
LAST, HEAD = 960, 128


def _eighths(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def layers(num_classes: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (kind, torchvision's name, shape of the kernel) of every layer with weights, in order.

    Kinds: `"conv"`, `"conv+bias"`, `"depthwise"`, `"norm"` (shape: the channels).
    """
    found: list[tuple[str, str, tuple[int, ...]]] = []

    def conv_norm(name: str, shape: tuple[int, ...], kind: str = "conv") -> None:
        found.extend([(kind, f"{name}.0", shape), ("norm", f"{name}.1", shape[:1])])

    conv_norm("backbone.0", (16, 3, 3, 3))
    inputs = 16
    for index, (kernel, expanded, outputs, squeezes) in enumerate(BLOCKS, start=1):
        part = 0
        if expanded != inputs:
            conv_norm(f"backbone.{index}.block.{part}", (expanded, inputs, 1, 1))
            part += 1
        conv_norm(f"backbone.{index}.block.{part}", (expanded, 1, kernel, kernel), "depthwise")
        part += 1
        if squeezes:
            narrow, name = _eighths(expanded / 4), f"backbone.{index}.block.{part}"
            found.append(("conv+bias", f"{name}.fc1", (narrow, expanded, 1, 1)))
            found.append(("conv+bias", f"{name}.fc2", (expanded, narrow, 1, 1)))
            part += 1
        conv_norm(f"backbone.{index}.block.{part}", (outputs, expanded, 1, 1))
        inputs = outputs
    conv_norm("backbone.16", (LAST, inputs, 1, 1))
    conv_norm("classifier.cbr", (HEAD, LAST, 1, 1))
    found.append(("conv", "classifier.scale.1", (HEAD, LAST, 1, 1)))
    found.append(("conv+bias", "classifier.low_classifier", (num_classes, 40, 1, 1)))
    found.append(("conv+bias", "classifier.high_classifier", (num_classes, HEAD, 1, 1)))
    return found


def draw(num_classes: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Return float32 arrays by torchvision's layer name, in torch's order and layout.

    Kernel (O, I, h, w) and bias; or gamma, beta, mean and variance. `RandomState`'s stream never changes.
    """
    random = np.random.RandomState(seed)
    drawn = {}
    for kind, name, shape in layers(num_classes):
        if kind == "norm":
            values = [
                random.uniform(0.5, 1.5, shape),
                random.normal(0, 0.1, shape),
                random.normal(0, 0.1, shape),
                # Small ones, that an epsilon shows.
                random.uniform(0.001, 1.0, shape),
            ]
        else:
            values = [random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)]
            if kind == "conv+bias":
                values.append(random.normal(0, 0.1, shape[:1]))
        drawn[name] = [value.astype("float32") for value in values]
    return drawn


def image(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a normalised image, float32 (1, H, W, 3)."""
    return np.random.RandomState(seed).normal(size=(1, *size, 3)).astype("float32")
