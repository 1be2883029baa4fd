"""Images with objects, and detections of them, drawn at random or by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kseg.data.detections import Detections
from kseg.data.instances import stack
from kseg.data.run_lengths import Masks
from kseg.data.sample import Sample
from kseg.metrics.instances.scene import Found, Scene, Truth

SIZE = (60, 80)
CLASSES = ("background", "cat", "dog", "cow")


def square(y: int, x: int, height: int, width: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A filled box."""
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def sample(
    name: str, masks: Sequence[np.ndarray], classes: Sequence[int], crowd: Sequence[bool] | None = None
) -> Sample:
    """An image with objects; its own pixels are black."""
    instances = stack(Masks.from_masks(masks, SIZE), classes, crowd or [False] * len(classes))
    return Sample(name, np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8), instances)


def scene(one: Sample, detections: Detections) -> Scene:
    """What a scorer keeps."""
    return Scene(one.name, SIZE, Truth.of(one.instances), Found.of(detections, 400))


def _box(rng: np.random.Generator, largest: int = 50) -> np.ndarray:
    y, x = int(rng.integers(0, SIZE[0] - 6)), int(rng.integers(0, SIZE[1] - 6))
    return square(y, x, *rng.integers(4, largest, 2))


def random_pair(name: str, rng: np.random.Generator) -> tuple[Sample, Detections]:
    """Up to 8 objects, some of them crowds or empty, and detections: moved copies and others; scores tie."""
    count = int(rng.integers(0, 9))
    masks = [_box(rng) if rng.random() < 0.95 else np.zeros(SIZE, bool) for _ in range(count)]
    classes = rng.integers(1, len(CLASSES), count).tolist()
    truth = sample(name, masks, classes, (rng.random(count) < 0.2).tolist())
    found = [_box(rng, 20) for _ in range(int(rng.integers(0, 3)))]
    kinds = rng.integers(1, len(CLASSES), len(found)).tolist()
    scores = rng.uniform(0, 0.7, len(found)).tolist()
    for mask, kind in zip(masks, classes, strict=True):
        for copy in range(int(rng.integers(0, 4))):
            found.append(np.roll(mask, rng.integers(-2, 3, 2), (0, 1)))
            kinds.append(kind if rng.random() < 0.9 else int(rng.integers(1, len(CLASSES))))
            scores.append(rng.uniform(0.4, 1) / (1 + copy))
    return truth, Detections.from_masks(found, np.round(scores, 1), kinds, SIZE)


def random_pairs(count: int, seed: int) -> list[tuple[Sample, Detections]]:
    """Pairs of one draw."""
    rng = np.random.default_rng(seed)
    return [random_pair(f"{index:03d}", rng) for index in range(count)]
