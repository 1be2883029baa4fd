"""Images and true objects for the training forms of instance networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.layers.detection import TRUE_SIDE

# Name -> rows, objects of each image, crowds of each image.
CASES: dict[str, tuple[int, list[int], list[int] | None]] = {
    "some": (4, [3, 1], None),
    "none": (4, [0, 0], None),
    "one row": (1, [1, 0], None),
    "crowds": (6, [2, 0], [1, 3]),
    "many": (80, [70, 2], None),
}


def image(batch: int = 2, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, *size, 3)).astype(np.float32)


def truth(rows: int, objects: list[int], crowds: list[int] | None = None) -> dict[str, np.ndarray]:
    """Boxes in rows of which the first so many are objects, and the next so many crowds, for each image."""
    batch = len(objects)
    target = {
        "true_boxes": np.zeros((batch, rows, 4), np.float32),
        "true_classes": np.zeros((batch, rows), np.int32),
        "true_objects": np.zeros((batch, rows), np.float32),
        "true_crowds": np.zeros((batch, rows), np.float32),
        "true_masks": np.zeros((batch, rows, TRUE_SIDE, TRUE_SIDE), np.uint8),
    }
    random = np.random.default_rng(1)
    for index, count in enumerate(objects):
        more = 0 if crowds is None else crowds[index]
        low = random.uniform(0, 30, (count + more, 2))
        target["true_boxes"][index, : count + more] = np.concatenate(
            [low, low + random.uniform(8, 30, low.shape)], 1
        )
        target["true_classes"][index, : count + more] = random.integers(1, 3, count + more)
        target["true_objects"][index, :count] = 1
        target["true_crowds"][index, count : count + more] = 1
        target["true_masks"][index, :count, 10:50, 5:40] = 1
    return target


def check_objects(found: dict[str, np.ndarray], size: tuple[int, int], classes: int) -> None:
    """Check what every instance network gives: objects inside the image, the surest first, zeros behind."""
    boxes, scores, kinds = found["boxes"], found["scores"], found["classes"]
    assert (np.diff(scores, axis=1) <= 0).all()
    real = scores > 0
    assert real.any()
    assert ((kinds > 0) == real).all()
    assert kinds.max() < classes
    assert boxes.min() >= 0
    assert (boxes[..., [0, 2]] <= size[0]).all()
    assert (boxes[..., [1, 3]] <= size[1]).all()
    assert not boxes[~real].any()
    assert 0 <= found["masks"].min() <= found["masks"].max() <= 1


def untouched(form: keras.Model, network: keras.Model, given: dict[str, np.ndarray]) -> list[str]:
    """Return the weights of a network that its losses, summed, do not reach."""
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        total = sum(tf.reduce_sum(value) for value in form(given, training=True).values())
    weights = network.trainable_weights
    found = tape.gradient(total, [weight.value for weight in weights])
    return [
        weight.path
        for weight, gradient in zip(weights, found, strict=True)
        if gradient is None or not np.abs(gradient).any()
    ]
