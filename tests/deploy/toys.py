"""A small trained network and two-class images for the tests of deploy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kseg.spec import Normalization, Spec

SIZE = (48, 64)
CLASSES = ("ground", "disc")


@dataclass(frozen=True)
class ToySample:
    name: str
    image: np.ndarray
    mask: np.ndarray
    instances: Any = None


def toy_sample(seed: int, size: tuple[int, int] = SIZE) -> ToySample:
    """A bright disc on darker noise; a strip of void (255) at the left edge."""
    rng = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    centre = rng.uniform(0.3, 0.7, 2) * size
    radius = rng.uniform(0.15, 0.3) * height
    mask = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2).astype(np.uint8)
    light = np.where(mask[..., None] == 1, rng.uniform(140, 200, 3), rng.uniform(40, 100, 3))
    image = np.clip(light + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
    mask[:, :2] = 255
    return ToySample(f"toy{seed:03d}", image, mask)


def toy_spec() -> Spec:
    return Spec(
        classes=CLASSES,
        input_size=SIZE,
        resize="stretch",
        normalization=Normalization(mean=(110.0, 110.0, 110.0), std=(60.0, 60.0, 60.0)),
    )


def build_toy(shape: tuple[int | None, int | None, int] = (None, None, 3)) -> Any:
    """Convolution, depthwise convolution, batch normalisation, transposed convolution: 2 logits."""
    import keras

    image = keras.Input(shape, name="pixels")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU(max_value=6)(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(24, 3, padding="same", activation="relu")(x)
    logits = keras.layers.Conv2DTranspose(2, 4, strides=2, padding="same", dtype="float32", name="head")(x)
    return keras.Model(image, logits, name="toy")


def normalized(sample: ToySample) -> np.ndarray:
    return ((sample.image.astype(np.float32) - 110.0) / 60.0).astype(np.float32)


def train_toy(model: Any, steps: int = 40) -> Any:
    """Fit the toy until it tells discs from ground; batch normalisation gets real statistics."""
    import keras

    samples = [toy_sample(seed) for seed in range(48)]
    images = np.stack([normalized(sample) for sample in samples])
    masks = np.stack([np.where(sample.mask == 255, 0, sample.mask) for sample in samples])
    keras.utils.set_random_seed(1)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, masks, batch_size=16, epochs=steps, verbose=0)
    return model
