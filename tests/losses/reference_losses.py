"""Slow numpy twins of the losses, in float64, written from the formulas and not from the code."""

from __future__ import annotations

import numpy as np


def _probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype("float64") - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _valid_pixels(labels: np.ndarray, logits: np.ndarray, ignore_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) and probabilities (n, C) of the valid pixels only."""
    keep = labels != ignore_id
    return labels[keep].astype(int), _probabilities(logits)[keep]


def cross_entropy(labels, logits, ignore_id, weights):
    y, p = _valid_pixels(labels, logits, ignore_id)
    return float(np.mean([weights[c] * -np.log(q[c]) for c, q in zip(y, p, strict=True)]))


def focal(labels, logits, ignore_id, weights, gamma=2.0):
    y, p = _valid_pixels(labels, logits, ignore_id)
    terms = [weights[c] * (1 - q[c]) ** gamma * -np.log(q[c]) for c, q in zip(y, p, strict=True)]
    return float(np.mean(terms))


def ohem(labels, logits, ignore_id, weights, threshold=0.7, min_kept=1 / 16):
    y, p = _valid_pixels(labels, logits, ignore_id)
    pairs = sorted((q[c], c) for c, q in zip(y, p, strict=True))
    least = max(1, int(np.ceil(min_kept * len(pairs))))
    kept = [pair for rank, pair in enumerate(pairs) if rank < least or pair[0] < threshold]
    return float(np.mean([weights[c] * -np.log(q) for q, c in kept]))


def tversky(labels, logits, ignore_id, weights, alpha=0.3, beta=0.7, smooth=1.0):
    y, p = _valid_pixels(labels, logits, ignore_id)
    losses = []
    for c in range(p.shape[1]):
        if not (y == c).any():
            continue
        tp = sum(q[c] for true, q in zip(y, p, strict=True) if true == c)
        fp = sum(q[c] for true, q in zip(y, p, strict=True) if true != c)
        fn = sum(1 - q[c] for true, q in zip(y, p, strict=True) if true == c)
        losses.append(weights[c] * (1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)))
    return float(np.mean(losses))


def dice(labels, logits, ignore_id, weights):
    return tversky(labels, logits, ignore_id, weights, 0.5, 0.5)


def jaccard(labels, logits, ignore_id, weights):
    return tversky(labels, logits, ignore_id, weights, 1.0, 1.0)


def lovasz(labels, logits, ignore_id, weights):
    """Berman et al. 2018, algorithm 1, with the differences of Jaccard values as printed there."""
    y, p = _valid_pixels(labels, logits, ignore_id)
    losses = []
    for c in range(p.shape[1]):
        truth = (y == c).astype("float64")
        if truth.sum() == 0:
            continue
        errors = np.abs(truth - p[:, c])
        order = np.argsort(-errors)
        ordered = truth[order]
        intersection = ordered.sum() - np.cumsum(ordered)
        union = ordered.sum() + np.cumsum(1 - ordered)
        jaccard_loss = 1 - intersection / union
        slope = np.concatenate([jaccard_loss[:1], np.diff(jaccard_loss)])
        losses.append(weights[c] * float(errors[order] @ slope))
    return float(np.mean(losses))


REFERENCES = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "ohem": ohem,
    "tversky": tversky,
}
