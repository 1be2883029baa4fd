"""Refining a region: a coarse mask over its box, then each superpixel is taken or left.

SDS, section 3.4: the coarse mask is a class's own 10 x 10 grid of probabilities; a superpixel is judged by
two numbers, its mean coarse probability and whether the region has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.instance.predictor import spread
from kseg.instance.sds.crops import with_context

# Superpixels with a mean coarse probability above this, and those of the region, are judged.
CONSIDERED = 0.2


def superpixel_facts(
    superpixels: NDArray[np.int32],
    areas: NDArray[Any],
    coarse: NDArray[np.floating],
    box: NDArray[Any],
    own: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the superpixels that are judged, `(K,)`, and the two numbers of each, `(K, 2)`.

    Args:
        superpixels: ids 0 to S - 1, `(H, W)`.
        areas: pixels of each, `(S,)`.
        coarse: probabilities `(10, 10)` over the box with its context.
        box: of the region.
        own: whether the region has a superpixel, `(S,)`.
    """
    size = (superpixels.shape[0], superpixels.shape[1])
    values, (y0, x0, y1, x1) = spread(coarse, with_context(box), size)
    inside = superpixels[y0:y1, x0:x1].reshape(-1)
    mean = np.bincount(inside, weights=values.reshape(-1), minlength=len(areas)) / np.maximum(areas, 1)
    judged = np.flatnonzero((mean > CONSIDERED) | own)
    return judged, np.stack([mean[judged], own[judged]], axis=1)


def refined(
    superpixels: NDArray[np.int32],
    areas: NDArray[Any],
    coarse: NDArray[np.floating],
    box: NDArray[Any],
    own: NDArray[np.bool_],
    rule: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return the superpixels `(S,)` of the refined region; those of the region itself if none is left.

    Args:
        superpixels, areas, coarse, box, own: see `superpixel_facts`.
        rule: weights of the two numbers and a constant, `(3,)`: from 0 on a superpixel is taken.
    """
    judged, facts = superpixel_facts(superpixels, areas, coarse, box, own)
    taken = np.zeros(len(own), bool)
    taken[judged[facts @ rule[:2] + rule[2] >= 0]] = True
    return taken if taken.any() else own.copy()
