"""The boxes that go on: of a region proposal network, and of classified proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseg.layers.detection.boxes import STANDARD_DEVIATIONS, clip, decode, moved, sides
from kseg.layers.detection.rows import filled_up, take
from kseg.layers.detection.suppression import kept, suppressed


def _best(scores: Any, count: int, *values: Any) -> tuple[Any, ...]:
    """Return the best `count` scores `(B, N)` and the rows of values `(B, N, ...)` that belong to them.

    With fewer rows than that, rows of score -1 fill up.
    """
    found, order = ops.top_k(filled_up(scores, count, -1.0), count)
    return found, *(take(filled_up(value, count), order) for value in values)


@keras.saving.register_keras_serializable(package="kseg")
class Proposals(keras.layers.Layer):
    """The best boxes of a region proposal network (Ren et al., Faster R-CNN, NIPS 2015, section 3.1).

    Of each level the best are decoded, cut to the image and, level by level, thinned.

    Args:
        before: boxes of each level that are decoded.
        keep: boxes that come out, of all levels.
        threshold: IoU above which the box of the lower score goes.
        least_side: boxes with a smaller side, in pixels, go.
        steps: see `NonMaximumSuppression`.
        gradient: None: none passes. Otherwise it passes from the boxes to their numbers; see `boxes.moved`.
        with_anchors: whether a third output tells which anchor each box came from.

    Returns:
        `boxes` float32 `(B, keep, 4)` and `real` float32 `(B, keep)`, for the image `(B, H, W, 3)` and, of
        each level, logits `(B, K)`, numbers `(B, K, 4)` and anchors `(1, K, 4)`; and, if asked, int32 `(B,
        keep)`: places among the anchors of all levels, one level behind the other.
    """

    def __init__(
        self,
        before: int,
        keep: int,
        threshold: float = 0.7,
        least_side: float = 1.0,
        steps: int | None = None,
        gradient: float | None = None,
        with_anchors: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.before, self.keep, self.threshold, self.least_side = before, keep, threshold, least_side
        self.steps, self.gradient, self.with_anchors = steps, gradient, with_anchors

    def compute_output_spec(self, image: Any, logits: Any, numbers: Any, anchors: Any) -> tuple:
        shape = (image.shape[0], self.keep)
        found = keras.KerasTensor((*shape, 4)), keras.KerasTensor(shape)
        return (*found, keras.KerasTensor(shape, "int32")) if self.with_anchors else found

    def call(
        self, image: Any, logits: Sequence[Any], numbers: Sequence[Any], anchors: Sequence[Any]
    ) -> tuple[Any, ...]:
        batch, height, width, _ = ops.shape(image)
        boxes, scores, places, before = [], [], [], 0
        for logit, number, anchor in zip(logits, numbers, anchors, strict=True):
            score = ops.sigmoid(ops.stop_gradient(logit))
            every = ops.broadcast_to(anchor, (batch, *ops.shape(anchor)[1:]))
            count = ops.shape(logit)[1]
            place = ops.zeros((batch, 1), "int32") + ops.arange(before, before + count, dtype="int32")
            before += count
            score, number, own, place = _best(score, self.before, number, every, place)
            box = moved(number, own, height, width, gradient=self.gradient)
            large = ops.logical_and(*(side >= self.least_side for side in sides(box)))
            scores.append(ops.where(large, score, -1.0))
            boxes.append(box)
            places.append(place)
        # Level by level: fewer pairs than between all boxes, and no sort of more than TensorRT's 3,840.
        score = ops.stack(scores, axis=1)
        stays = kept(ops.stack(boxes, axis=1), score, None, self.threshold, self.steps)
        score = ops.reshape(ops.where(stays > 0, score, -1.0), (batch, -1))
        best, indices = ops.top_k(filled_up(score, self.keep, -1.0), self.keep)
        real = ops.cast(best > 0, "float32")
        # Rows that fill up point at the first box: at one that came in.
        indices = indices * ops.cast(real, "int32")
        found = take(ops.concatenate(boxes, axis=1), indices) * real[..., None]
        if not self.with_anchors:
            return found, real
        return found, real, take(ops.concatenate(places, axis=1), indices)

    def get_config(self) -> dict[str, Any]:
        own = ("before", "keep", "threshold", "least_side", "steps", "gradient", "with_anchors")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable(package="kseg")
class Detections(keras.layers.Layer):
    """The boxes of the best classes of proposals, thinned class by class (Girshick, Fast R-CNN, ICCV 2015).

    Args:
        keep: detections that come out.
        threshold: IoU above which the box of the lower score and the same class goes.
        least_score: detections below go.
        before: the best so many pairs of proposal and class are looked at.
        steps: see `NonMaximumSuppression`.

    Returns:
        `boxes` float32 `(B, keep, 4)`, `scores` float32 `(B, keep)` in falling order and `classes` int32
        `(B, keep)`, 1 and up; rows that fill up have score 0. For the image `(B, H, W, 3)`, proposals `(B,
        N, 4)`, which of them are real `(B, N)`, logits `(B, N, C)`, class 0 the background, and numbers `(B,
        N, C - 1, 4)`.
    """

    def __init__(
        self,
        keep: int,
        threshold: float = 0.5,
        least_score: float = 0.05,
        before: int = 1000,
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.keep, self.threshold, self.least_score = keep, threshold, least_score
        self.before, self.steps = before, steps

    def compute_output_spec(self, image: Any, proposals: Any, real: Any, logits: Any, numbers: Any) -> tuple:
        batch = image.shape[0]
        return (
            keras.KerasTensor((batch, self.keep, 4)),
            keras.KerasTensor((batch, self.keep)),
            keras.KerasTensor((batch, self.keep), "int32"),
        )

    def call(self, image: Any, proposals: Any, real: Any, logits: Any, numbers: Any) -> tuple[Any, Any, Any]:
        _, height, width, _ = ops.shape(image)
        classes = logits.shape[-1] - 1
        scores = ops.softmax(logits, axis=-1)[..., 1:] * real[..., None]
        boxes = clip(decode(numbers, proposals[:, :, None], STANDARD_DEVIATIONS), height, width)
        pairs = proposals.shape[1] * classes
        looked_at = min(self.before, pairs)
        labels = ops.zeros_like(scores) + ops.arange(1, classes + 1, dtype="float32")
        rows = ops.concatenate([boxes, labels[..., None]], axis=-1)
        best, rows = _best(ops.reshape(scores, (-1, pairs)), looked_at, ops.reshape(rows, (-1, pairs, 5)))
        best = ops.where(best >= self.least_score, best, 0.0)
        indices, kept = suppressed(
            rows[..., :4], best, rows[..., 4], self.threshold, self.keep, steps=self.steps
        )
        rows = take(rows, indices) * kept[..., None]
        found = take(best, indices) * kept
        return rows[..., :4], found, ops.cast(rows[..., 4], "int32")

    def get_config(self) -> dict[str, Any]:
        own = ("keep", "threshold", "least_score", "before", "steps")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
