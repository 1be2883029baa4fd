"""Losses that are a mean over pixels: cross-entropy, focal, online hard examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError
from kseg.losses.base import PixelLoss, cross_entropy


@keras.saving.register_keras_serializable(package="kseg")
class PixelCrossEntropy(PixelLoss):
    """Softmax cross-entropy, averaged over valid pixels.

    A pixel costs `sum_c t_c w_c -log p_c` with the target t and the class weights w, which with label
    smoothing weigh the share of every class, not of the true one alone: `torch.nn.CrossEntropyLoss(weight,
    label_smoothing=)` with `reduction="none"`. (Its `"mean"` divides by the sum of the weights, this one by
    the number of valid pixels; see `PixelLoss`.)

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class. None: all 1.
        label_smoothing: share in [0, 1) of the target that is spread evenly over all classes.
        reduction: see `PixelLoss`.
        name: name of the loss.

    Example:

    ```python
    model.compile(optimizer="adam", loss=kseg.losses.PixelCrossEntropy(ignore_id=255))
    ```
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_id, class_weights, reduction, name)
        if not 0.0 <= label_smoothing < 1.0:
            raise UsageError(
                f"PixelCrossEntropy `label_smoothing` must be in [0, 1). Received: {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def pixel_loss(self, labels: Any, logits: Any) -> Any:
        """Return the cross-entropy of each pixel."""
        values = cross_entropy(labels, logits)
        if self.label_smoothing == 0.0:
            return values
        # -mean_c log p_c: the cross-entropy against the uniform target.
        uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        return (1.0 - self.label_smoothing) * values + self.label_smoothing * uniform

    def weighted(self, values: Any, labels: Any, logits: Any, class_weights: np.ndarray) -> Any:
        """Return the cross-entropy with each class' weight on its share of the target."""
        if self.label_smoothing == 0.0:
            return super().weighted(values, labels, logits, class_weights)
        true = super().weighted(cross_entropy(labels, logits), labels, logits, class_weights)
        costs = ops.logsumexp(logits, axis=-1, keepdims=True) - logits
        uniform = ops.mean(costs * class_weights, axis=-1)
        return (1.0 - self.label_smoothing) * true + self.label_smoothing * uniform

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="kseg")
class Focal(PixelLoss):
    """Focal loss `(1 - p)^gamma * -log p` of the true class' softmax probability p.

    `class_weights` is the paper's alpha. This is the softmax form: one term per pixel, of its true class. The
    paper's detectors, and `torchvision.ops.sigmoid_focal_loss`, take one sigmoid per class and sum as many
    binary terms per pixel, so for more than two classes their values differ. For two, logits (0, z) give what
    torchvision gives for the logit z: with `class_weights=(1 - alpha, alpha)` for its alpha, without them for
    its -1.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class, applied by the true class. None: all 1.
        gamma: focusing exponent >= 0; 0 is cross-entropy.
        reduction: see `PixelLoss`.
        name: name of the loss.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 3.
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        gamma: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_id, class_weights, reduction, name)
        if not (np.isfinite(gamma) and gamma >= 0.0):
            raise UsageError(f"Focal `gamma` must be a finite number >= 0. Received: {gamma!r}")
        self.gamma = float(gamma)

    def pixel_loss(self, labels: Any, logits: Any) -> Any:
        """Return the focal loss of each pixel."""
        values = cross_entropy(labels, logits)
        # 1 - p = -expm1(-ce) keeps its digits near p = 1. The floor keeps the gradient of x^gamma finite
        # there for gamma < 1, where it has a pole at 0.
        rest = ops.maximum(-ops.expm1(-values), 1e-7)
        return ops.power(rest, self.gamma) * values

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="kseg")
class OnlineHardExample(PixelLoss):
    """Cross-entropy over the hard pixels of the batch only (OHEM).

    A valid pixel is kept when the probability of its true class is below `threshold`, or when it is
    among the hardest `min_kept` share of the valid pixels (pixels that tie with the last of those are
    kept too). The mean is over kept pixels: they are this loss' valid pixels. Hardness is judged without
    class weights.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class, applied by the true class. None: all 1.
        threshold: probability in (0, 1].
        min_kept: share in (0, 1] of the valid pixels that is kept in any case (at least one pixel).
        reduction: see `PixelLoss`.
        name: name of the loss.

    Reference:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining,
        CVPR 2016; for pixels: Wu et al., High-performance Semantic Segmentation Using Very Deep Fully
        Convolutional Networks, 2016, section 3.3.
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        threshold: float = 0.7,
        min_kept: float = 1 / 16,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_id, class_weights, reduction, name)
        for label, value in (("threshold", threshold), ("min_kept", min_kept)):
            if not 0.0 < value <= 1.0:
                raise UsageError(
                    f"OnlineHardExample `{label}` must be in (0, 1]. Received: {label}={value!r}"
                )
        self.threshold = float(threshold)
        self.min_kept = float(min_kept)

    def pixel_loss(self, labels: Any, logits: Any) -> Any:
        """Return the cross-entropy of each pixel."""
        return cross_entropy(labels, logits)

    def kept(self, values: Any, valid: Any) -> Any:
        """Return the bool map of hard pixels. Fixed shapes only, so that JAX can compile it."""
        values = ops.stop_gradient(values)
        # Void pixels get -1 and so are sorted before every valid one.
        flat = ops.reshape(ops.where(valid, values, -1.0), (-1,))
        count = ops.sum(ops.cast(valid, "int32"))
        kept = ops.maximum(ops.cast(ops.ceil(self.min_kept * ops.cast(count, "float32")), "int32"), 1)
        last = ops.take(ops.sort(flat), ops.cast(ops.size(flat), "int32") - kept)
        bound = ops.minimum(last, -float(np.log(self.threshold)))
        # `>=`, because the pixel that sets `last` is kept (and so is one at exactly the threshold).
        return ops.logical_and(valid, values >= bound)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**super().get_config(), "threshold": self.threshold, "min_kept": self.min_kept}
