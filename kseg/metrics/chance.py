"""What a network that has learned nothing scores: the best guess that does not look at the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kseg.errors import DataError, UsageError

# A network that has come no further than this share of the way from chance to a perfect score has learned
# next to nothing.
LEAST_SKILL = 0.02


def chance_miou(counts: npt.ArrayLike) -> float:
    """Return the mean IoU, in 0..1, that can be had without looking at the image.

    The better of two guesses: the commonest class everywhere, which scores its share of the pixels, every
    other class 0; and a draw from the classes' shares at each pixel, which scores `p / (2 - p)` for a class
    of share `p`. The mean is over the classes of the truth (`miou_present` in `Confusion.scores()`).

    Args:
        counts: pixels of the truth per class, shape (C,), or a confusion matrix of it, shape (C, C), rows
            are truth (`Confusion.matrix`); integers >= 0, void left out.

    Raises:
        UsageError: if `counts` is not of that kind.
        DataError: if no pixel was counted.

    Example:
        >>> round(chance_miou([60, 40]), 4)
        0.3393
    """
    array = np.asarray(counts)
    shaped = array.ndim == 1 or (array.ndim == 2 and array.shape[0] == array.shape[1])
    if not shaped or array.size == 0 or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise UsageError(
            "chance_miou: `counts` must be pixels per class (C,) or a confusion matrix (C, C), all >= 0 and "
            f"integers. Received: shape {array.shape}, dtype {array.dtype}"
        )
    truth = array if array.ndim == 1 else array.sum(axis=1)
    total = int(truth.sum())
    if total == 0:
        raise DataError("There is no chance level: no pixel of the truth was counted, or all of it is void")
    shares = truth[truth > 0] / total
    return float(max(shares.max() / len(shares), np.mean(shares / (2 - shares))))


def near_chance(miou: float, chance: float) -> bool:
    """Return whether a mean IoU (0..1) is less than 2 % of the way from `chance_miou` to a perfect score."""
    return miou - chance <= LEAST_SKILL * (1 - chance)
