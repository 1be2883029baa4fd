"""A predictor whose scores are refined by looking at the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kseg.data.merged import check_classes
from kseg.errors import DataError, UsageError
from kseg.inference.pictures import Picture, as_image
from kseg.semantic.inference.scored import ScoredPredictor
from kseg.semantic.refine.scores import Floats, Refiner

if TYPE_CHECKING:
    from kseg.semantic.inference.predictor import Predictor


class Refined(ScoredPredictor):
    """Predicts with `predictor`, then applies refiners to the scores at the image's own size.

    It stands wherever a `Predictor` does: `evaluate`, `kseg predict`, reports. Images go one after the other,
    so the predictor's `batch_size` only counts within one image (mirrored and scaled looks, tiles).

    Memory: refiners look at the whole image, so all its scores are held: per pixel and class 4 bytes for the
    logits, and up to about five times that inside a refiner (360 x 480 x 11: 8 MB and 40 MB; 10,000 x 10,000
    x 11: 4.4 GB and 22 GB); cutting superpixels takes up to 360 bytes per pixel. `Predictor` alone needs no
    such thing.

    Args:
        predictor: a `Predictor`, or what has its surface.
        refiners: applied in this order; each takes the scores of the one before as its logits.

    Raises:
        UsageError: if there is no refiner, or one was made for other classes than the predictor's.

    Example:
        >>> refined = Refined(kseg.Predictor("model.keras"), [create("superpixels", scale=50)])
        >>> masks = refined(["a.jpg", "b.jpg"])
    """

    # Every refiner of the table gives logarithms of distributions.
    log_probabilities = True

    def __init__(self, predictor: Predictor | ScoredPredictor, refiners: Sequence[Refiner]) -> None:
        # What has a Predictor's surface counts as one.
        self.base: Predictor = predictor  # type: ignore[assignment]
        self.refiners = tuple(refiners)
        if not self.refiners:
            raise UsageError("Argument `refiners` must hold at least one refiner. Received: none")
        for refiner in self.refiners:
            spec = getattr(refiner, "spec", None)
            if spec is not None:
                check_classes(predictor.spec, spec)

    def logits(self, image: Picture) -> Floats:
        """Return float32 `(H, W, classes)` at the image's own size: the last refiner's scores.

        Raises:
            DataError: if the network's logits are not finite.
        """
        pixels = as_image(image)
        scores = self.base.logits(pixels)
        if not np.isfinite(scores).all():
            bad = ~np.isfinite(scores).all(axis=-1)
            raise DataError(
                f"The network gives logits that are not finite at {bad.sum()} of {bad.size} pixels, and no "
                "refiner can work on them. Check the model with: kseg verify"
            )
        for refiner in self.refiners:
            scores = refiner(pixels, scores)
        return scores

    def close(self) -> None:
        """Free the runtime, and what the refiners hold."""
        for refiner in self.refiners:
            close = getattr(refiner, "close", None)
            if close is not None:
                close()
        self.base.close()
