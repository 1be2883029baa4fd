"""Class weights from pixel counts: how much more a pixel of a rare class counts in the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kseg.errors import UsageError, did_you_mean

SCHEMES = ("none", "median_frequency", "sqrt_median", "inverse", "enet")


def check_scheme(scheme: str) -> None:
    """Raise UsageError, with the nearest name, if `scheme` is not in `SCHEMES`."""
    if scheme not in SCHEMES:
        raise UsageError(
            f"Unknown class weight scheme '{scheme}'.{did_you_mean(scheme, list(SCHEMES))} "
            f"Known: {', '.join(SCHEMES)}"
        )


def class_weights(
    counts: ArrayLike,
    scheme: str = "median_frequency",
    *,
    present: Sequence[int] | NDArray | None = None,
    power: float = 1.0,
    mean_one: bool = False,
) -> NDArray[np.float64]:
    """Return one weight per class from the pixel counts of the train split.

    With `n_c` pixels of class c (void left out), `N` pixels in all, `p_c = n_c / N`, K classes that occur:

    - `"none"`: 1.
    - `"median_frequency"`: `median(f) / f_c`, where `f_c = n_c / present_c` is the share of class c
      within the images that show it (Eigen and Fergus, ICCV 2015, section 5; used by SegNet). Without
      `present`, `f_c = p_c`.
    - `"sqrt_median"`: the square root of that: trains rare classes without over-predicting them as much.
    - `"inverse"`: `N / (K n_c)`, every class with the same total weight.
    - `"enet"`: `1 / ln(1.02 + p_c)`, between 1.4 and 50.5 (ENet, arXiv:1606.02147, section 5.1).

    A class without a pixel gets 1 (before `mean_one`): nothing is known of it, and no pixel has its weight.

    Args:
        counts: `(classes,)` non-negative pixel counts, without void.
        scheme: one of the names above.
        present: `(classes,)` valid pixels of the images in which the class occurs.
        power: exponent put on each weight; below 1 damps, 0 gives ones.
        mean_one: scale so that the mean over all pixels, `sum(p_c w_c)`, is 1: the loss keeps its size and
            the learning rate its meaning. The papers do not scale.

    Returns:
        float64 `(classes,)`, all positive and finite.

    Raises:
        UsageError: unknown scheme, negative or no counts, or a `present` smaller than the count.

    Example:
        >>> class_weights([900, 100], "inverse")
        array([0.55555556, 5.        ])
    """
    pixels = np.asarray(counts, np.float64)
    if pixels.ndim != 1 or not pixels.size or (pixels < 0).any() or not np.isfinite(pixels).all():
        raise UsageError(
            f"Argument `counts` must be one non-negative pixel count per class. Received: {counts!r}"
        )
    check_scheme(scheme)
    occurs = pixels > 0
    if not occurs.any():
        raise UsageError("Argument `counts` has no pixel of any class: are all masks void?")
    weights = np.ones(len(pixels))
    weights[occurs] = _formula(pixels, _reference(pixels, present), scheme)[occurs] ** power
    if mean_one:
        weights /= (pixels / pixels.sum() * weights).sum()
    return weights


def _reference(pixels: NDArray, present: Sequence[int] | NDArray | None) -> NDArray:
    """Return the pixels that each class's share is taken of."""
    if present is None:
        return np.full(len(pixels), pixels.sum())
    reference = np.asarray(present, np.float64)
    if reference.shape != pixels.shape or (reference < pixels).any():
        raise UsageError(
            "Argument `present` must have one entry per class, not below its count. "
            f"Received: {present!r} for counts {pixels.astype(np.int64).tolist()}"
        )
    return reference


def _formula(pixels: NDArray, reference: NDArray, scheme: str) -> NDArray:
    occurs = pixels > 0
    counted = np.where(occurs, pixels, 1.0)  # absent classes are replaced by the caller
    if scheme == "none":
        return np.ones(len(pixels))
    if scheme == "inverse":
        return pixels.sum() / (occurs.sum() * counted)
    if scheme == "enet":
        return 1 / np.log(1.02 + pixels / pixels.sum())
    frequency = counted / np.where(occurs, reference, 1.0)
    ratio = np.median(frequency[occurs]) / frequency
    return np.sqrt(ratio) if scheme == "sqrt_median" else ratio
