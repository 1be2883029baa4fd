"""Scores of class maps against label maps: one confusion matrix over all images, at their original size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from kseg.data.merged import check_classes, in_classes_of
from kseg.errors import DataError
from kseg.metrics.chance import chance_miou
from kseg.metrics.confusion import Confusion
from kseg.spec import Spec


class SemanticScorer(Confusion):
    """A confusion matrix that is given samples and class maps, and knows the names of its classes.

    Args:
        classes: names, in the order of the ids.
        ignore_id: of the truth.
    """

    def __init__(self, classes: Sequence[str], ignore_id: int) -> None:
        super().__init__(len(classes), ignore_id)
        self.classes = tuple(classes)

    def add(self, sample: Any, prediction: NDArray[Any]) -> None:
        """Count a class map against the label map of its sample.

        Raises:
            DataError: if the label map has another size than its image, or holds unknown ids.
        """
        if sample.mask.shape != sample.image.shape[:2]:
            raise DataError(
                f"Sample '{sample.name}': the mask is {sample.mask.shape[0]}x{sample.mask.shape[1]}, its "
                f"image {sample.image.shape[0]}x{sample.image.shape[1]}. Run: kseg check-data DIR"
            )
        try:
            self.update(sample.mask, prediction)
        except DataError as error:
            raise DataError(f"Sample '{sample.name}': {error}") from error

    def comparable(self) -> float:
        """Return mean IoU over the classes that the truth has: two networks are judged over the same ones."""
        return float(self.scores()["miou_present"])

    def parts(self) -> dict[str, float | None]:
        """Return the IoU of each class; None where the truth lacks it."""
        seen = self.matrix.sum(axis=1) > 0
        found = self.scores()["iou"]
        return {
            name: (value or 0.0) if there else None
            for name, value, there in zip(self.classes, found, seen, strict=True)
        }

    def chance(self) -> float:
        """Return the mean IoU that can be had without looking at an image."""
        return chance_miou(self.matrix)

    def agreement(self, one: NDArray[Any], other: NDArray[Any]) -> tuple[int, int]:
        """Return on how many pixels, void included, two class maps agree, and of how many."""
        return int((one == other).sum()), one.size

    def summary(self) -> dict[str, Any]:
        """Return all scores and the matrix."""
        return {**self.scores(), "matrix": self.matrix.tolist()}

    def __add__(self, other: Confusion) -> SemanticScorer:
        merged = SemanticScorer(self.classes, self.ignore_id)
        merged.matrix = super().__add__(other).matrix
        return merged


def scorer(spec: Spec, samples: Any) -> tuple[SemanticScorer, Any]:
    """Return a scorer for a model, and the samples with their truth in the model's classes.

    Args:
        spec: of the model.
        samples: if they have a `.spec`, its classes must be the model's, or those that the model merges, and
            its ignore id is used.

    Raises:
        UsageError: naming what differs, if the class lists differ in any way.
    """
    samples = in_classes_of(spec, samples)
    data = getattr(samples, "spec", None)
    if data is not None:
        check_classes(spec, data)
    return SemanticScorer(spec.classes, spec.ignore_id if data is None else data.ignore_id), samples
