"""Losses of networks that find instances: each gives a number for each image, `(B,)`, in float32."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.layers.detection.boxes import STANDARD_DEVIATIONS, encode, inside
from kseg.layers.detection.matching import EASY, NEGATIVE, NEITHER, POSITIVE, Sample, match
from kseg.layers.detection.rows import take


def smooth_l1(error: Any, sigma: float = 1.0) -> Any:
    """Return the Huber loss of Fast R-CNN: quadratic up to `1 / sigma**2`, then linear with slope 1."""
    bound = 1.0 / sigma**2
    size = ops.abs(error)
    return ops.where(size < bound, size * size / (2 * bound), size - bound / 2)


def _mean(values: Any, weights: Any) -> Any:
    """Return the sum of weighted values `(B, S)` by the number of rows that have a weight, at least 1."""
    return ops.sum(values * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)


def _with_others(
    chosen: Any, positive: Any, drawn: Any, may: Any, others: Any, are_positive: Any
) -> tuple[Any, Any, Any]:
    """Return what was drawn `(B, S)` and the others `(B, N)`; what is both is what the others say.

    `may` `(B, K)` is 1 where an anchor may be learned; others below 0 are none.
    """
    there = ops.cast(others >= 0, "int32")
    others = ops.maximum(others, 0)
    there = there * take(may, others)
    same = ops.logical_and(ops.equal(chosen[:, :, None], others[:, None]), there[:, None] > 0)
    drawn = drawn * (1 - ops.cast(ops.any(same, axis=-1), "float32"))
    there = ops.cast(there, "float32")
    return (
        ops.concatenate([chosen, others], axis=1),
        ops.concatenate([positive * drawn, are_positive * there], axis=1),
        ops.concatenate([drawn, there], axis=1),
    )


def _class_entropy(logits: Any, index: Any, positive: Any, true_classes: Any) -> tuple[Any, Any]:
    """Return the classes of boxes, background where they are not positive, and their losses, `(B, S)`."""
    classes = take(ops.cast(true_classes, "int32"), index) * ops.cast(positive, "int32")
    return classes, ops.sparse_categorical_crossentropy(classes, logits, from_logits=True)


@keras.saving.register_keras_serializable(package="kseg")
class RPNLosses(keras.layers.Layer):
    """Is there an object, and where: over a sample of the anchors (Ren et al., Faster R-CNN, section 3.1.2).

    Args:
        count: anchors that are drawn from each image.
        positive_share: of these at most.
        high: IoU from which an anchor is positive; the best of each object is, too.
        low: IoU below which it is negative.
        sigma: of the boxes' loss (`smooth_l1`).
        seed: of drawing.

    Returns:
        The loss of the classes and that of the boxes, float32 `(B,)` each; for logits `(B, K)`, numbers `(B,
        K, 4)`, anchors `(1, K, 4)`, true boxes `(B, M, 4)`, and which of these are objects and which crowds,
        `(B, M)` each. If the image `(B, H, W, C)` is given too, nothing is learned of anchors that it cuts.
        `also`: anchors `(B, S)` that are learned beside those drawn, -1 for none, and as what: `positive`
        `(B, S)` (the release of MNC: those whose boxes the heads learn from, as what the heads do).
    """

    def __init__(
        self,
        count: int = 256,
        positive_share: float = 0.5,
        high: float = 0.7,
        low: float = 0.3,
        sigma: float = 3.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.high, self.low, self.sigma = high, low, sigma
        self.draw = Sample(count, positive_share, seed, name="draw")

    def compute_output_spec(self, logits: Any, *others: Any) -> tuple:
        return keras.KerasTensor((logits.shape[0],)), keras.KerasTensor((logits.shape[0],))

    def call(
        self,
        logits: Any,
        numbers: Any,
        anchors: Any,
        true_boxes: Any,
        real: Any,
        crowd: Any,
        image: Any = None,
        also: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        candidates = anchors
        if image is not None:
            whole = inside(anchors, *ops.shape(image)[1:3])
            # Without an area they are no object's best.
            candidates = anchors * ops.cast(whole, "float32")[..., None]
        labels, index, overlap = match(
            candidates, true_boxes, real, high=self.high, low=self.low, best_of_each=True, crowd=crowd
        )
        if image is not None:
            labels = ops.where(whole, labels, NEITHER)
        chosen, drawn = self.draw(labels)
        positive = ops.cast(ops.equal(take(labels, chosen), POSITIVE), "float32") * drawn
        if also is not None:
            may = (
                ops.ones_like(labels) if image is None else ops.zeros_like(labels) + ops.cast(whole, "int32")
            )
            chosen, positive, drawn = _with_others(chosen, positive, drawn, may, *also)
        entropy = ops.binary_crossentropy(positive, take(logits, chosen), from_logits=True)
        own = take(ops.broadcast_to(anchors, (ops.shape(labels)[0], *ops.shape(anchors)[1:])), chosen)
        wanted = encode(take(true_boxes, take(index, chosen)), own)
        error = ops.sum(smooth_l1(take(numbers, chosen) - ops.stop_gradient(wanted), self.sigma), axis=-1)
        count = ops.maximum(ops.sum(drawn, axis=1), 1)
        # One of `also` may be positive and overlap no object: it has no box to learn.
        boxed = positive * ops.cast(take(overlap, chosen) > 0, "float32")
        return _mean(entropy, drawn), ops.sum(error * boxed, axis=1) / count


@keras.saving.register_keras_serializable(package="kseg")
class SampleRegions(keras.layers.Layer):
    """The boxes that the heads are trained on: proposals and true boxes, matched and drawn (section 3.2).

    Args:
        count: boxes that are drawn from each image.
        positive_share: of these at most; they come first.
        threshold: IoU from which a box is an object, and below which it is background.
        seed: of drawing.
        least: IoU below which background is easy.
        easy_share: at most this share of the background that is drawn is easy.
        through_boxes: whether the gradient passes to the proposals.

    Returns:
        `boxes` `(B, count, 4)`, `index` int32 `(B, count)` of their true boxes, `positive` and `drawn`
        float32 `(B, count)`; for proposals `(B, N, 4)`, which are real `(B, N)`, true boxes `(B, M, 4)` and
        which of these are objects and which crowds. If the proposals' `anchors` int32 `(B, N)` are given too,
        those of the boxes, `(B, count)`, with -1 for true boxes and rows that fill up.
    """

    def __init__(
        self,
        count: int = 128,
        positive_share: float = 0.25,
        threshold: float = 0.5,
        seed: int = 1,
        least: float = 0.0,
        easy_share: float = 0.0,
        through_boxes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.count, self.threshold, self.least, self.through_boxes = count, threshold, least, through_boxes
        self.draw = Sample(count, positive_share, seed, easy_share, name="draw")

    def compute_output_spec(
        self, proposals: Any, known: Any, true_boxes: Any, real: Any, crowd: Any, anchors: Any = None
    ) -> tuple:
        shape = (proposals.shape[0], self.count)
        found = (
            keras.KerasTensor((*shape, 4)),
            keras.KerasTensor(shape, "int32"),
            keras.KerasTensor(shape),
            keras.KerasTensor(shape),
        )
        return found if anchors is None else (*found, keras.KerasTensor(shape, "int32"))

    def call(
        self, proposals: Any, known: Any, true_boxes: Any, real: Any, crowd: Any, anchors: Any = None
    ) -> tuple:
        boxes = ops.concatenate([proposals, true_boxes], axis=1)
        boxes = boxes if self.through_boxes else ops.stop_gradient(boxes)
        there = ops.concatenate([known, real], axis=1)
        limit = self.threshold
        labels, index, overlap = match(boxes, true_boxes, real, high=limit, low=limit, crowd=crowd)
        easy = ops.logical_and(ops.equal(labels, NEGATIVE), overlap < self.least)
        labels = ops.where(easy, EASY, labels)
        labels = ops.where(there > 0, labels, NEITHER)
        chosen, drawn = self.draw(labels)
        positive = ops.cast(ops.equal(take(labels, chosen), POSITIVE), "float32") * drawn
        found = take(boxes, chosen), take(index, chosen), positive, drawn
        if anchors is None:
            return found
        own = ops.concatenate([anchors, ops.zeros_like(ops.cast(real, "int32")) - 1], axis=1)
        return *found, ops.where(drawn > 0, take(own, chosen), -1)


@keras.saving.register_keras_serializable(package="kseg")
class BoxLosses(keras.layers.Layer):
    """Which class, and where exactly, of boxes that were drawn (Girshick, Fast R-CNN, ICCV 2015, section
    2.3).

    Returns:
        The loss of the classes and that of the boxes, float32 `(B,)` each; for logits `(B, S, C)`, numbers
        `(B, S, C, 4)`, what `SampleRegions` gave, true boxes `(B, M, 4)` and their classes `(B, M)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, logits: Any, *others: Any) -> tuple:
        return keras.KerasTensor((logits.shape[0],)), keras.KerasTensor((logits.shape[0],))

    def call(
        self,
        logits: Any,
        numbers: Any,
        boxes: Any,
        index: Any,
        positive: Any,
        drawn: Any,
        true_boxes: Any,
        true_classes: Any,
    ) -> tuple[Any, Any]:
        classes, entropy = _class_entropy(logits, index, positive, true_classes)
        own = ops.one_hot(classes, logits.shape[-1], dtype="float32")
        found = ops.sum(numbers * own[..., None], axis=2)
        wanted = encode(take(true_boxes, index), boxes, STANDARD_DEVIATIONS)
        error = ops.sum(smooth_l1(found - ops.stop_gradient(wanted)), axis=-1)
        count = ops.maximum(ops.sum(drawn, axis=1), 1)
        return _mean(entropy, drawn), ops.sum(error * positive, axis=1) / count


@keras.saving.register_keras_serializable(package="kseg")
class ClassLoss(keras.layers.Layer):
    """Which class alone, of boxes that were drawn.

    Returns:
        float32 `(B,)`; for logits `(B, S, C)`, and `index`, `positive` and `drawn` as `SampleRegions` gives
        them, and true classes `(B, M)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, logits: Any, *others: Any) -> Any:
        return keras.KerasTensor((logits.shape[0],))

    def call(self, logits: Any, index: Any, positive: Any, drawn: Any, true_classes: Any) -> Any:
        return _mean(_class_entropy(logits, index, positive, true_classes)[1], drawn)


@keras.saving.register_keras_serializable(package="kseg")
class MaskLoss(keras.layers.Layer):
    """Binary cross-entropy of the mask of the true class (He et al., Mask R-CNN, ICCV 2017, section 3).

    Returns:
        float32 `(B,)`, the mean over the pixels of positive boxes; for logits `(B, S, m, m, C)`, targets
        `(B, S, m, m)`, the classes of the boxes `(B, S)` and which are positive `(B, S)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, logits: Any, *others: Any) -> Any:
        return keras.KerasTensor((logits.shape[0],))

    def call(self, logits: Any, targets: Any, classes: Any, positive: Any) -> Any:
        own = ops.one_hot(ops.cast(classes, "int32"), logits.shape[-1], dtype="float32")
        found = ops.sum(logits * own[:, :, None, None, :], axis=-1)
        entropy = ops.binary_crossentropy(targets, found, from_logits=True)
        return _mean(ops.mean(entropy, axis=(2, 3)), positive)
