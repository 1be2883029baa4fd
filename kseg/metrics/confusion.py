"""The confusion matrix and the scores over it. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kseg.checks import whole
from kseg.errors import DataError, UsageError

SCORES = ("miou", "miou_present", "pixel_acc", "mean_acc", "fwiou")

# Pixels counted at once: keeps the index array at 32 MB whatever the size of the image.
_CHUNK = 1 << 22


class Confusion:
    """A confusion matrix in exact integers, and the scores defined over it.

    With n[i, j] the number of pixels of true class i predicted as class j, t_i the row sums (truth) and
    p_j the column sums (prediction), over every pixel of the whole data set that is not ignored:

    - `iou[i]`  = n[i, i] / (t_i + p_i - n[i, i]); None where class i is neither in truth nor predicted.
    - `acc[i]`  = n[i, i] / t_i; None where class i is not in the truth.
    - `miou`: mean of `iou` over the classes that occur in the truth **or** in the prediction (the
      nan-mean of FCN's `score.py`). A class that is nowhere neither counts as 0 nor as 1.
    - `miou_present`: mean of `iou` over the classes that occur in the **truth**. A class that is only
      predicted lowers the IoU of the classes it was taken from, but is no term of the mean.
    - `pixel_acc` = sum_i n[i, i] / sum_i t_i.
    - `mean_acc`: mean of `acc` over the classes that occur in the truth.
    - `fwiou` = sum_i t_i * iou[i] / sum_i t_i.

    All are in 0..1.

    Args:
        num_classes: number of classes C >= 1; ids are 0..C-1.
        ignore_id: label value of the truth that is left out (void).

    Example:

    ```python
    confusion = Confusion(num_classes=11, ignore_id=255)
    for truth, prediction in pairs:
        confusion.update(truth, prediction)
    print(confusion.scores()["miou"])
    ```

    Reference:
        Long, Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation, section 5.
    """

    def __init__(self, num_classes: int, ignore_id: int = 255) -> None:
        self.num_classes = whole(num_classes, "Confusion", "num_classes")
        self.ignore_id = int(ignore_id)
        self.matrix: npt.NDArray[np.int64] = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)

    @staticmethod
    def from_matrix(matrix: npt.ArrayLike, ignore_id: int = 255) -> Confusion:
        """Return a Confusion over given counts: a square matrix of integers >= 0, rows are truth.

        Raises:
            UsageError: if the matrix is not of that kind.
        """
        counts = np.asarray(matrix)
        square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] and counts.shape[0] > 0
        if not square or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 0:
            raise UsageError(
                "Confusion `matrix` must be a square matrix of integers >= 0. "
                f"Received: shape {counts.shape}, dtype {counts.dtype}"
            )
        confusion = Confusion(counts.shape[0], ignore_id)
        confusion.matrix = counts.astype(np.int64)
        return confusion

    def update(self, truth: npt.ArrayLike, prediction: npt.ArrayLike) -> Confusion:
        """Count the pixels of one image, or of several.

        Args:
            truth: integer class ids or `ignore_id`, any shape.
            prediction: integer class ids, the same shape. What it says under ignored pixels is not looked at.

        Returns:
            This object.

        Raises:
            UsageError: if the shapes differ, a dtype is not integer, or a predicted id is out of range.
            DataError: if the truth has ids out of range other than `ignore_id`.

        Nothing is counted when it raises.
        """
        true, predicted = np.asarray(truth), np.asarray(prediction)
        if true.shape != predicted.shape:
            raise UsageError(
                "Confusion.update: `truth` and `prediction` must have one shape (score at original size). "
                f"Received: {true.shape} and {predicted.shape}"
            )
        for name, array in (("truth", true), ("prediction", predicted)):
            if not np.issubdtype(array.dtype, np.integer):
                raise UsageError(
                    f"Confusion.update: `{name}` must hold integer class ids (argmax of the logits). "
                    f"Received: dtype {array.dtype}"
                )
        true, predicted = true.reshape(-1), predicted.reshape(-1)
        counts = np.zeros(self.num_classes**2, dtype=np.int64)
        for start in range(0, true.size, _CHUNK):
            stop = start + _CHUNK
            counts += self._counted(true[start:stop], predicted[start:stop])
        self.matrix += counts.reshape(self.matrix.shape)
        return self

    def _counted(self, true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the flat counts of one chunk."""
        valid = true != self.ignore_id
        if not valid.all():
            true, predicted = true[valid], predicted[valid]
        if true.size == 0:
            return np.zeros(self.num_classes**2, dtype=np.int64)
        if true.min() < 0 or true.max() >= self.num_classes:
            raise DataError(
                f"The truth has ids {self._outside(true)}, which are neither a class "
                f"(0-{self.num_classes - 1}) nor ignore_id={self.ignore_id}. Run: kseg check-data DIR"
            )
        if predicted.min() < 0 or predicted.max() >= self.num_classes:
            raise UsageError(
                f"Confusion.update: `prediction` must hold ids 0-{self.num_classes - 1}. "
                f"Received: {self._outside(predicted)}; is this a model of another number of classes?"
            )
        index = true.astype(np.intp)
        index *= self.num_classes
        index += predicted.astype(np.intp)
        return np.bincount(index, minlength=self.num_classes**2)

    def _outside(self, ids: npt.NDArray[Any]) -> str:
        """Return the first few ids that are no class, as text."""
        outside = np.unique(ids[(ids < 0) | (ids >= self.num_classes)])
        text = ", ".join(str(int(value)) for value in outside[:8])
        return text + (", ..." if outside.size > 8 else "")

    @property
    def total(self) -> int:
        """Number of pixels counted."""
        return int(self.matrix.sum())

    def scores(self) -> dict[str, Any]:
        """Return every score as JSON-ready values.

        Returns:
            `miou`, `miou_present`, `pixel_acc`, `mean_acc`, `fwiou`: floats in 0..1; `iou` and `acc`: a list
            with one float, or None, per class. Definitions: see the class.

        Raises:
            DataError: if no pixel was counted (no image, or every pixel ignored): no score is defined then.
        """
        if self.total == 0:
            raise DataError(
                "There is nothing to score: no image was given, or every pixel of the truth is "
                f"ignore_id={self.ignore_id}. Run: kseg check-data DIR"
            )
        hits = np.diag(self.matrix).astype(np.float64)
        truth = self.matrix.sum(axis=1).astype(np.float64)
        union = truth + self.matrix.sum(axis=0) - hits
        with np.errstate(invalid="ignore", divide="ignore"):
            iou, acc = hits / union, hits / truth
        present = truth > 0
        return {
            "miou": float(iou[union > 0].mean()),
            "miou_present": float(iou[present].mean()),
            "pixel_acc": float(hits.sum() / truth.sum()),
            "mean_acc": float(acc[present].mean()),
            "fwiou": float((truth[present] * iou[present]).sum() / truth.sum()),
            "iou": [float(value) if counted else None for value, counted in zip(iou, union > 0, strict=True)],
            "acc": [float(value) if counted else None for value, counted in zip(acc, present, strict=True)],
        }

    def foreground_iou(self, background: int = 0) -> float | None:
        """Return the IoU of "any class but `background`"; None if there is none in truth and prediction.

        Confusions among foreground classes count as hits. With two classes this is the IoU of the other.

        Raises:
            UsageError: if `background` is not a class.
        """
        if not 0 <= background < self.num_classes:
            raise UsageError(
                f"`background` must be a class (0-{self.num_classes - 1}). Received: {background!r}"
            )
        union = self.total - int(self.matrix[background, background])
        missed = int(self.matrix[:, background].sum() + self.matrix[background].sum())
        missed -= 2 * int(self.matrix[background, background])
        return None if union == 0 else (union - missed) / union

    def __add__(self, other: Confusion) -> Confusion:
        if not isinstance(other, Confusion):
            return NotImplemented
        if (self.num_classes, self.ignore_id) != (other.num_classes, other.ignore_id):
            raise UsageError(
                "Only confusions of one num_classes and ignore_id can be added. Received: "
                f"{self.num_classes}, {self.ignore_id} and {other.num_classes}, {other.ignore_id}"
            )
        return Confusion.from_matrix(self.matrix + other.matrix, self.ignore_id)

    def __repr__(self) -> str:
        return f"Confusion(num_classes={self.num_classes}, ignore_id={self.ignore_id}, total={self.total})"
