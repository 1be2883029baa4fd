"""What a network that has learned nothing scores: the constant prediction of the commonest class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kseg.errors import DataError, UsageError

# Within one point of the constant prediction nothing was learned that a run with another seed would show.
MARGIN = 0.01


def chance_miou(counts: npt.ArrayLike) -> float:
    """Return the mean IoU, in 0..1, of predicting the commonest class of the truth everywhere.

    That class has the IoU `t_max / sum(t)`, every other class of the truth 0: no constant prediction scores
    higher. The mean is over the classes of the truth, as in `Confusion.scores()` (`miou` and `miou_present`
    agree here, since nothing else is predicted).

    Args:
        counts: pixels of the truth per class, shape (C,), or a confusion matrix of it, shape (C, C), rows
            are truth (`Confusion.matrix`); integers >= 0, void left out.

    Raises:
        UsageError: if `counts` is not of that kind.
        DataError: if no pixel was counted.

    Example:
        >>> chance_miou([60, 40])
        0.3
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
    return float(truth.max() / total / np.count_nonzero(truth))


def near_chance(miou: float, chance: float) -> bool:
    """Return whether a mean IoU (0..1) is within one point of `chance_miou`, or below it."""
    return miou <= chance + MARGIN
