"""From scores to class distributions and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def probabilities(scores: Floats) -> Floats:
    """Return the softmax over the last axis, float32, of the shape of `scores`."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float32)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def log_scores(distributions: Floats) -> Floats:
    """Return the logarithm of distributions, float32, finite also where a share is 0."""
    return np.log(np.maximum(distributions, np.finfo(np.float32).tiny)).astype(np.float32)


def log_softmax(scores: Floats) -> Floats:
    """Return the logarithm of the softmax over the last axis, float32; exact also for tiny shares."""
    shifted = np.asarray(scores, np.float32) - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
