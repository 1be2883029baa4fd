"""Many logistic regressions over the same features at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.errors import require

_STEPS = 200


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the probabilities that logits mean; beyond 60 they are 0 or 1 anyway, and nothing overflows."""
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def fit_logistic(
    features: NDArray[np.floating], targets: NDArray[Any], cost: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights `(D, K)` and constants `(K,)` of K independent logistic regressions.

    Each minimises half its squared weights, the constant's included (as liblinear does), plus `cost` times
    the sum of its log losses.

    Args:
        features: `(N, D)`.
        targets: 0 or 1, `(N, K)`; a column may hold one value only.
        cost: liblinear's C.

    Raises:
        MissingExtraError: if SciPy is not installed.
    """
    optimize: Any = require("scipy.optimize", "sds")
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float32)
    signs = np.where(np.asarray(targets, bool), 1, -1).astype(np.float32)
    shape = x.shape[1], signs.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        margins = signs * (x @ weights.astype(np.float32))
        value = 0.5 * float(flat @ flat) + cost * float(np.logaddexp(0, -margins).sum(dtype=np.float64))
        slope = -signs / (1 + np.exp(np.minimum(margins, 60)))
        return value, (weights + cost * (x.T @ slope)).reshape(-1).astype(np.float64)

    found = optimize.minimize(
        loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    weights = found.x.reshape(shape)
    return weights[:-1], weights[-1]
