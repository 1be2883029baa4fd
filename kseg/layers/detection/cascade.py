"""What a cascade adds: boxes that are moved on, features under masks, masks that are right, masks that vote.

Reference:
    Dai, He, Sun, "Instance-aware Semantic Segmentation via Multi-task Network Cascades", CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.checks import whole
from kseg.layers.detection.boxes import STANDARD_DEVIATIONS, moved, overlaps, sides
from kseg.layers.detection.masks import on_grid
from kseg.layers.detection.rows import take

# Probability from which a pixel belongs to a mask, IoU from which a mask is right or two boxes vote together.
INSIDE, RIGHT = 0.4, 0.5


@keras.saving.register_keras_serializable(package="kseg")
class RefineBoxes(keras.layers.Layer):
    """Boxes moved by the numbers of their best class: from stage 3 of MNC to stage 4.

    Args:
        foreground: whether the background cannot be the best.
        gradient: None: none passes. Otherwise it passes to boxes and numbers; see `boxes.moved`.

    Returns:
        float32 `(B, N, 4)`, cut to the image; for the image `(B, H, W, 3)`, boxes `(B, N, 4)`, numbers
        `(B, N, C, 4)` and logits `(B, N, C)`, class 0 the background.
    """

    def __init__(self, foreground: bool = True, gradient: float | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.foreground, self.gradient = foreground, gradient

    def compute_output_spec(self, image: Any, boxes: Any, numbers: Any, logits: Any) -> Any:
        return keras.KerasTensor(boxes.shape)

    def call(self, image: Any, boxes: Any, numbers: Any, logits: Any) -> Any:
        _, height, width, _ = ops.shape(image)
        first = int(self.foreground)
        logits, numbers = ops.stop_gradient(logits[..., first:]), numbers[:, :, first:]
        best = ops.cast(logits >= ops.max(logits, axis=-1, keepdims=True), "float32")
        best = best / ops.sum(best, axis=-1, keepdims=True)
        chosen = ops.sum(numbers * best[..., None], axis=2)
        return moved(chosen, boxes, height, width, STANDARD_DEVIATIONS, self.gradient)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "foreground": self.foreground, "gradient": self.gradient}


@keras.saving.register_keras_serializable(package="kseg")
class MaskedFeatures(keras.layers.Layer):
    """Features of regions times their masks (section 3.3).

    A mask is resized bilinearly: row u of h samples it at `u m / h`, as released.

    Returns:
        `(B, N, h, h, C)` for features `(B, N, h, h, C)` and masks `(B, N, m, m)`.
    """

    def compute_output_shape(self, features_shape: tuple, masks_shape: tuple) -> tuple:
        return features_shape

    def call(self, features: Any, masks: Any) -> Any:
        side, size = masks.shape[-1], features.shape[2]
        places = np.arange(size, dtype=np.float32) * side / size
        taken = np.maximum(1 - np.abs(places - np.arange(side, dtype=np.float32)[:, None]), 0)
        masks = ops.cast(masks, "float32")
        for _ in range(2):
            masks = ops.swapaxes(ops.matmul(masks, taken), -1, -2)
        return features * ops.cast(masks, features.dtype)[..., None]


@keras.saving.register_keras_serializable(package="kseg")
class RightMasks(keras.layers.Layer):
    """Which masks show their objects: what the mask-level class is learned from. No gradient passes.

    Returns:
        float32 `(B, S)`, 1 where a positive box's mask, from probability 0.4 on, has IoU 0.5 with the true
        one; for masks `(B, S, m, m)`, targets `(B, S, m, m)`, boxes `(B, S, 4)`, the numbers `(B, S)` of
        their true boxes, which are positive `(B, S)`, true boxes `(B, M, 4)` and true masks `(B, M, k, k)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, masks: Any, *others: Any) -> Any:
        return keras.KerasTensor(masks.shape[:2])

    def call(
        self,
        masks: Any,
        targets: Any,
        boxes: Any,
        index: Any,
        positive: Any,
        true_boxes: Any,
        true_masks: Any,
    ) -> Any:
        found = ops.cast(masks >= INSIDE, "float32")
        area = ops.multiply(*sides(ops.stop_gradient(boxes)))
        common, own = area * ops.mean(found * targets, axis=(2, 3)), area * ops.mean(found, axis=(2, 3))
        true = ops.multiply(*sides(true_boxes)) * ops.mean(ops.cast(true_masks, "float32"), axis=(2, 3))
        union = ops.maximum(own + take(true, index) - common, 1e-9)
        return positive * ops.cast(common / union >= RIGHT, "float32")


@keras.saving.register_keras_serializable(package="kseg")
class MaskVoting(keras.layers.Layer):
    """The mask of each detection as the candidates around it see it, weighted by their scores of its class.

    The candidates whose boxes have IoU 0.5 with a detection's vote, the best `voters` of them: their masks,
    from probability 0.4 on 1, are averaged. What then reaches 0.4 is the object, and its bounds the new box.
    The bounds are looked for on a grid of 3 x 3 points per cell over the voters' boxes, in place of all
    pixels of the image: memory grows with detections and voters only.

    Args:
        voters: candidates at most; 1: the detection's own mask.

    Returns:
        `boxes` float32 `(B, D, 4)` and `masks` float32 `(B, D, m, m)` over them, stretched so that an average
        of 0.4 is 0.5; for detections' boxes `(B, D, 4)`, scores `(B, D)` and classes `(B, D)`, candidates'
        boxes `(B, N, 4)`, which are real `(B, N)`, their probabilities `(B, N, C)` and masks `(B, N, m, m)`.
    """

    def __init__(self, voters: int = 16, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.voters = whole(voters, "MaskVoting", "voters")

    def compute_output_spec(self, boxes: Any, *others: Any) -> tuple:
        return keras.KerasTensor(boxes.shape), keras.KerasTensor((*boxes.shape[:2], *others[-1].shape[2:]))

    def call(
        self,
        boxes: Any,
        scores: Any,
        classes: Any,
        candidates: Any,
        real: Any,
        probabilities: Any,
        masks: Any,
    ) -> tuple[Any, Any]:
        count, side = boxes.shape[1], masks.shape[-1]
        voters = min(self.voters, candidates.shape[1])
        own = ops.one_hot(classes, probabilities.shape[-1], dtype="float32")
        weights = ops.matmul(own, ops.swapaxes(probabilities, 1, 2)) * real[:, None, :]
        weights, index = ops.top_k(
            weights * ops.cast(overlaps(boxes, candidates) >= RIGHT, "float32"), voters
        )
        index = ops.reshape(index, (-1, count * voters))
        chosen = take(candidates, index)
        masks = take(ops.reshape(masks, (-1, masks.shape[1], side * side)), index)
        given = (ops.reshape(masks, (-1, count * voters, side, side)), chosen, weights)
        split = ops.reshape(chosen, (-1, count, voters, 4))
        votes = ops.where(weights[..., None] > 0, split, boxes[:, :, None])
        around = ops.concatenate([ops.min(votes[..., :2], axis=2), ops.max(votes[..., 2:], axis=2)], axis=-1)
        tight = _bounds(_average(*given, around, 3 * side), around, boxes)
        found = _average(*given, tight, side)
        above = ops.minimum(0.5 + (found - INSIDE) * (0.5 / (1 - INSIDE)), 1.0)  # weights add up to about 1
        stretched = ops.where(found < INSIDE, found * (0.5 / INSIDE), above)
        shown = ops.cast(scores > 0, "float32")
        return tight * shown[..., None], stretched * shown[..., None, None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "voters": self.voters}


def _average(masks: Any, own: Any, weights: Any, boxes: Any, size: int) -> Any:
    """Return `(B, D, size, size)`: the weighted mean of masks over grids over boxes `(B, D, 4)`.

    Args:
        masks, own: `(B, D * V, m, m)` and `(B, D * V, 4)`: V masks and their boxes for each of D.
        weights: `(B, D, V)`.
    """
    count, voters = weights.shape[1:]
    each = ops.reshape(ops.zeros_like(weights)[..., None] + boxes[:, :, None], (-1, count * voters, 4))
    votes = ops.cast(on_grid(masks, own, each, size) >= INSIDE, "float32")
    shares = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-9)
    mean = ops.matmul(shares[:, :, None], ops.reshape(votes, (-1, count, voters, size * size)))
    return ops.reshape(mean, (-1, count, size, size))


def _bounds(found: Any, around: Any, otherwise: Any) -> Any:
    """Return the boxes `(B, D, 4)` of what reaches 0.4 in grids `(B, D, G, G)`; if nothing, others."""
    size = found.shape[-1]
    places = np.arange(size, dtype=np.float32)
    lows, highs = [], []
    for axis in (0, 1):
        reached = ops.max(found, axis=3 - axis) >= INSIDE
        low = ops.min(ops.where(reached, places, float(size)), axis=-1)
        high = ops.max(ops.where(reached, places + 1, 0.0), axis=-1)
        start, end = around[..., axis], around[..., axis + 2]
        step = (end - start) / size
        lows.append(start + low * step)
        # The sum of all steps may be rounded to behind the grid, and so to outside of the image.
        highs.append(ops.minimum(start + high * step, end))
    there = ops.max(found, axis=(2, 3)) >= INSIDE
    return ops.where(there[..., None], ops.stack([*lows, *highs], axis=-1), otherwise)
