"""Losses over regions, one value per data batch: Tversky, Dice, Jaccard, Lovasz."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg.errors import UsageError
from kseg.losses.base import PixelLoss


class RegionLoss(PixelLoss):
    """Base of losses that give one number per class for the whole batch.

    The classes are averaged: `sum_c w_c * loss_c / number of classes counted`, over the classes that
    occur in the batch's valid truth (`present_only=True`) or over all. The reductions of Keras do not
    apply to one number: every choice gives it as it is. A sample weight multiplies what its pixels add.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class. None: all 1.
        present_only: average over the classes that occur in the truth of the batch only. With False an
            absent class costs what is predicted of it.
        reduction: see above.
        name: name of the loss.
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        present_only: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_id, class_weights, reduction, name)
        self.present_only = bool(present_only)

    def reduce_loss(self, labels: Any, logits: Any, valid: Any, weights: Any) -> Any:
        """Average `class_losses` over the classes that count."""
        num_classes = int(logits.shape[-1])
        # Pixels in one row, classes in columns.
        truth = ops.reshape(ops.one_hot(labels, num_classes, dtype="float32"), (-1, num_classes))
        probabilities = ops.reshape(ops.softmax(logits, axis=-1), (-1, num_classes))
        valid = ops.reshape(ops.cast(valid, "float32"), (-1, 1))
        weights = ops.reshape(weights, (-1, 1))
        losses = self.class_losses(truth * valid, probabilities, valid, weights)
        counted = ops.cast(ops.sum(truth * valid, axis=0) > 0, "float32")
        if not self.present_only:
            # Nothing valid still gives 0.
            counted = ops.ones_like(counted) * ops.cast(ops.sum(valid) > 0, "float32")
        factors = counted
        if self.class_weights is not None:
            factors = factors * ops.convert_to_tensor(np.asarray(self.class_weights, "float32"))
        loss = ops.divide_no_nan(ops.sum(losses * factors), ops.sum(counted))
        # Shape (1,), not (): Keras divides the loss among replicas only where it reduces.
        return ops.reshape(loss, (1,))

    def class_losses(self, truth: Any, probabilities: Any, valid: Any, weights: Any) -> Any:
        """Return one loss per class, float32 (C,).

        Args:
            truth: one-hot float32 (N, C), 0 in rows that are not valid.
            probabilities: softmax, float32 (N, C), in every row.
            valid: float32 (N, 1), 1 or 0.
            weights: float32 (N, 1): the sample weight where valid, else 0.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**super().get_config(), "present_only": self.present_only}


@keras.saving.register_keras_serializable(package="kseg")
class Tversky(RegionLoss):
    """Tversky loss `1 - (TP + s) / (TP + alpha * FP + beta * FN + s)` per class, over the whole batch.

    TP, FP, FN are sums of softmax probabilities over the valid pixels of the batch. `alpha < beta`
    favours recall.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class. None: all 1.
        alpha: cost >= 0 of false positives.
        beta: cost >= 0 of false negatives.
        smooth: s > 0, in pixels; keeps an empty class finite.
        present_only: see `RegionLoss`.
        reduction: see `RegionLoss`.
        name: name of the loss.

    Reference:
        Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep
        networks, MLMI 2017, section 2.
    """

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        present_only: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_id, class_weights, present_only, reduction, name)
        if min(alpha, beta) < 0.0 or not np.isfinite(alpha + beta):
            raise UsageError(
                f"{type(self).__name__} `alpha` and `beta` must be finite numbers >= 0. "
                f"Received: alpha={alpha!r}, beta={beta!r}"
            )
        if not (np.isfinite(smooth) and smooth > 0.0):
            raise UsageError(
                f"{type(self).__name__} `smooth` must be a finite number > 0. Received: smooth={smooth!r}"
            )
        self.alpha, self.beta, self.smooth = float(alpha), float(beta), float(smooth)

    def class_losses(self, truth: Any, probabilities: Any, valid: Any, weights: Any) -> Any:
        """Return 1 - Tversky index per class."""
        hits = ops.sum(truth * probabilities * weights, axis=0)
        false_positives = ops.sum((1.0 - truth) * probabilities * weights, axis=0)
        # Not sum(truth) - hits: that difference would lose the digits of a nearly perfect class.
        misses = ops.sum(truth * (1.0 - probabilities) * weights, axis=0)
        wrong = self.alpha * false_positives + self.beta * misses
        return wrong / (hits + wrong + self.smooth)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        config = super().get_config()
        return {**config, "alpha": self.alpha, "beta": self.beta, "smooth": self.smooth}


class _FixedTversky(Tversky):
    """A Tversky loss whose alpha and beta are its name."""

    _COST = 0.5

    def __init__(
        self,
        ignore_id: int = 255,
        class_weights: Sequence[float] | np.ndarray | None = None,
        smooth: float = 1.0,
        present_only: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(
            ignore_id, class_weights, self._COST, self._COST, smooth, present_only, reduction, name
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {key: value for key, value in super().get_config().items() if key not in ("alpha", "beta")}


@keras.saving.register_keras_serializable(package="kseg")
class Dice(_FixedTversky):
    """Soft Dice loss `1 - (TP + s) / (TP + FP/2 + FN/2 + s)` per class, over the whole batch.

    With s = 0 this is `1 - 2 TP / (sum of truth + sum of probabilities)`. Arguments: as `Tversky`,
    without alpha and beta.

    Reference:
        Milletari et al., V-Net, 3DV 2016, section 3 (there with squared probabilities below).
    """


@keras.saving.register_keras_serializable(package="kseg")
class Jaccard(_FixedTversky):
    """Soft Jaccard (IoU) loss `1 - (TP + s) / (TP + FP + FN + s)` per class, over the whole batch.

    Arguments: as `Tversky`, without alpha and beta.

    Reference:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation, ISVC 2016.
    """

    _COST = 1.0


@keras.saving.register_keras_serializable(package="kseg")
class Lovasz(RegionLoss):
    """Lovasz-Softmax: the convex extension of the Jaccard loss, over the valid pixels of the batch.

    It sorts N = B*H*W errors once per class, so it costs far more than cross-entropy on a CPU. A sample
    weight multiplies the term of its pixel; it does not change the order.

    Args:
        ignore_id: label value that is left out (void).
        class_weights: one factor >= 0 per class. None: all 1.
        present_only: see `RegionLoss` (the paper's `classes='present'`).
        reduction: see `RegionLoss`.
        name: name of the loss.

    Reference:
        Berman et al., The Lovasz-Softmax loss, CVPR 2018, algorithm 1 and section 3.
    """

    def class_losses(self, truth: Any, probabilities: Any, valid: Any, weights: Any) -> Any:
        """Return the Lovasz extension per class."""
        truth, valid, weights = ops.transpose(truth), ops.transpose(valid), ops.transpose(weights)
        errors = ops.abs(truth - ops.transpose(probabilities))
        # Void pixels sort behind every valid one: the rest is then as if they were not there.
        keys = ops.where(valid > 0, -errors, 1.0)
        order = ops.argsort(ops.stop_gradient(keys), axis=-1)
        sorted_truth = ops.take_along_axis(truth, order, axis=-1)
        slope = self._slope(sorted_truth)
        sorted_terms = ops.take_along_axis(errors * weights, order, axis=-1)
        return ops.sum(sorted_terms * ops.stop_gradient(slope), axis=-1)

    @staticmethod
    def _slope(truth: Any) -> Any:
        """Return the Jaccard loss' step at each sorted pixel: truth (C, N) of 0 and 1 -> (C, N).

        The textbook takes differences of neighbouring Jaccard values, which at N = 10^6 leaves one or
        two digits in float32. The same steps in closed form: a true pixel shrinks the intersection by
        one, 1 / union; any other grows the union by one, intersection / (union * (union - 1)).
        """
        hits = ops.cumsum(ops.cast(truth, "int32"), axis=-1)
        others = ops.cumsum(1 - ops.cast(truth, "int32"), axis=-1)
        total = hits[:, -1:]
        intersection = ops.cast(total - hits, "float32")
        union = ops.cast(total + others, "float32")
        grown = intersection / (ops.maximum(union, 1.0) * ops.maximum(union - 1.0, 1.0))
        # A class without a true pixel: its Jaccard loss jumps from 0 to 1 at the first pixel.
        first = ops.cast(ops.equal(total + others, 1), "float32")
        grown = ops.where(total > 0, grown, first)
        return ops.where(truth > 0, 1.0 / ops.maximum(union, 1.0), grown)
