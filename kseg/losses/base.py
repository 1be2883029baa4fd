"""The masked base of every pixel loss: one place for ignored pixels, class weights and reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError

# Chosen once: Keras' "mean" family. "sum" and None do not divide.
_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


def checked_class_weights(class_weights: Sequence[float] | np.ndarray | None) -> tuple[float, ...] | None:
    """Return class weights as a tuple of finite floats >= 0.

    Raises:
        UsageError: if a weight is negative, NaN or infinite, or if there is none.
    """
    if class_weights is None:
        return None
    weights = tuple(float(value) for value in np.asarray(class_weights, dtype="float64").reshape(-1))
    if not weights or not all(np.isfinite(value) and value >= 0 for value in weights):
        raise UsageError(
            f"Loss `class_weights` must be one finite number >= 0 per class. Received: {class_weights!r}"
        )
    return weights


class PixelLoss(keras.losses.Loss):
    """Base of losses over integer masks and logits that leave ignored pixels out.

    Inputs of a call:

    - `y_true`: class ids, shape (B, H, W) or (B, H, W, 1), any integer (or integer-valued float) dtype.
    - `y_pred`: logits, shape (B, H, W, C), any float dtype; the loss is computed in float32.
    - `sample_weight`: optional, one number per image (B,) or per pixel (B, H, W) or (B, H, W, 1).

    A pixel is *valid* when its id is in 0..C-1 and is not `ignore_id`. Ids outside that range are left
    out exactly as `ignore_id` is, on every backend: a compiled graph cannot raise. (`kseg check-data` and
    the check of the first training batch are what reports them.) Logits under pixels that are not valid
    change neither the value nor the gradient, as long as they are finite.

    Reduction, as in Keras: `"sum_over_batch_size"` and `"mean"` divide by the number of **valid pixels** —
    not by the sum of weights, so class weights act as given: doubling them doubles the loss;
    `"mean_with_sample_weight"` divides by the sum of the sample weights of the valid pixels; `"sum"` does
    not divide; None gives the map (B, H, W), 0 where not valid. Nothing valid gives 0, with zero gradient.

    A subclass writes `pixel_loss` (a map that is then masked, weighted and averaged) or, for losses over
    regions, overrides `reduce_loss`.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class, applied by the true class. None: all 1.
        reduction: see above.
        name: name of the loss. Default: made from the class name.
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        # float32 whatever keras.config.floatx() says: sums over 10^6 pixels need it.
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.ignore_id = int(ignore_id)
        self.class_weights = checked_class_weights(class_weights)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the reduced loss. Shapes: see the class."""
        # Keras would multiply a (B,) weight with a (B, H, W) map along the wrong axis, and divide by
        # every pixel; so the weight goes with the labels, and `call` gives what Keras need only average.
        return super().__call__(y_true if sample_weight is None else (y_true, sample_weight), y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return a tensor whose Keras reduction (see the class) is the loss."""
        y_true, sample_weight = y_true if isinstance(y_true, tuple) else (y_true, None)
        labels = self._labels(y_true, y_pred)
        num_classes = int(y_pred.shape[-1])
        valid = ops.logical_and(labels != self.ignore_id, ops.logical_and(labels >= 0, labels < num_classes))
        labels = ops.where(valid, labels, 0)
        weights = ops.cast(valid, "float32")
        if sample_weight is not None:
            weights = weights * self._pixel_weights(sample_weight)
        return self.reduce_loss(labels, y_pred, valid, weights)

    def reduce_loss(self, labels: Any, logits: Any, valid: Any, weights: Any) -> Any:
        """Return the values that Keras will reduce.

        Args:
            labels: int32 (B, H, W); 0 where not valid.
            logits: float32 (B, H, W, C).
            valid: bool (B, H, W).
            weights: float32 (B, H, W): the sample weight where valid, else 0.
        """
        values = self.pixel_loss(labels, logits)
        valid = self.kept(values, valid)
        if self.class_weights is not None:
            values = self.weighted(values, labels, logits, np.asarray(self.class_weights, "float32"))
        values = ops.where(valid, values * weights, 0.0)
        return self._scaled(values, valid, weights)

    def pixel_loss(self, labels: Any, logits: Any) -> Any:
        """Return the loss of each pixel, float32 (B, H, W), before masking and class weights."""
        raise NotImplementedError

    def weighted(self, values: Any, labels: Any, logits: Any, class_weights: np.ndarray) -> Any:
        """Return `values` of `pixel_loss` with the class weights. Default: that of the true class."""
        return values * ops.take(class_weights, labels)

    def kept(self, values: Any, valid: Any) -> Any:
        """Return which of the valid pixels count, bool (B, H, W). Default: all of them."""
        return valid

    def _scaled(self, values: Any, valid: Any, weights: Any) -> Any:
        """Scale a masked map so that Keras' division by all its pixels ends as one by the valid pixels."""
        if self.reduction not in _MEANS:
            return values
        total = ops.cast(ops.size(values), "float32")
        divisor = ops.cast(valid, "float32")
        if self.reduction == "mean_with_sample_weight":
            divisor = divisor * weights
        return values * ops.divide_no_nan(total, ops.sum(divisor))

    def _labels(self, y_true: Any, y_pred: Any) -> Any:
        """Check shapes and return int32 labels (B, H, W)."""
        shape, logits_shape = tuple(y_true.shape), tuple(y_pred.shape)
        if len(logits_shape) != 4 or logits_shape[-1] is None or logits_shape[-1] < 2:
            raise UsageError(
                f"{type(self).__name__} `y_pred` must be logits of shape (B, H, W, C) with C >= 2. "
                f"Received: shape {logits_shape}"
            )
        if len(shape) == 4 and shape[-1] == 1:
            y_true, shape = ops.squeeze(y_true, axis=-1), shape[:-1]
        if len(shape) != 3:
            raise UsageError(
                f"{type(self).__name__} `y_true` must be class ids of shape (B, H, W) or (B, H, W, 1), "
                f"not one-hot. Received: shape {shape}"
            )
        pairs = zip(shape, logits_shape, strict=False)
        if any(a is not None and b is not None and a != b for a, b in pairs):
            raise UsageError(
                f"{type(self).__name__} `y_true` and `y_pred` must agree in (B, H, W): kseg networks give "
                f"logits at input size. Received: {shape} and {logits_shape}"
            )
        if self.class_weights is not None and len(self.class_weights) != logits_shape[-1]:
            raise UsageError(
                f"{type(self).__name__} `class_weights` must have one number per class. "
                f"Received: {len(self.class_weights)} weights for {logits_shape[-1]} classes"
            )
        return ops.cast(y_true, "int32")

    @staticmethod
    def _pixel_weights(sample_weight: Any) -> Any:
        """Bring (B,), (B, 1), (B, H, W) or (B, H, W, 1) to something that broadcasts over (B, H, W)."""
        rank = len(sample_weight.shape)
        if rank == 4:
            return ops.squeeze(sample_weight, axis=-1)
        if rank == 3:
            return sample_weight
        return ops.reshape(sample_weight, (-1, 1, 1))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {
            "ignore_id": self.ignore_id,
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "reduction": self.reduction,
            "name": self.name,
        }


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Return -log softmax(logits)[label] per pixel: (B, H, W) from int32 labels and float32 logits."""
    # A fused kernel on TensorFlow, both ways; log-softmax and a one-hot product elsewhere.
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
