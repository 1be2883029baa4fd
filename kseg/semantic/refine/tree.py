"""A tree of nested segments over superpixels, and the cover of it that is purest.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3, and the same authors' "Scene Parsing with Multiscale
Feature Learning, Purity Trees, and Optimal Covers", ICML 2012.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.segments.borders import Doubles, borders
from kseg.segments.labels import Labels
from kseg.segments.tree import SegmentTree, merge
from kseg.semantic.refine.scores import Image


def build_tree(labels: Labels, image: Image, linkage: str = "average", sigma: float = 1.0) -> SegmentTree:
    """Merge superpixels, those with the faintest border first, until one segment is left.

    The contrast of a border is the mean colour difference across it in the smoothed image.

    Args:
        labels: superpixel ids `(H, W)`, 0 to n-1.
        image: uint8 `(H, W, 3)`.
        linkage: see `kseg.segments.tree.merge`: `"average"` (TPAMI version) or `"mst"` (ICML version).
        sigma: width in pixels of the Gaussian that smooths the image first; 0: none.
    """
    smooth = image.astype(np.float32)
    if sigma:
        smooth = np.asarray(cv2.GaussianBlur(smooth, (0, 0), sigma), np.float32)
    return merge(int(labels.max()) + 1, borders(labels, smooth), linkage)


def entropy(distributions: Doubles) -> Doubles:
    """Return the entropy in nats of distributions `(N, C)`, float64 `(N,)`: 0 is pure."""
    return -(distributions * np.log(np.maximum(distributions, np.finfo(np.float64).tiny))).sum(axis=1)


def optimal_cover(tree: SegmentTree, costs: Doubles) -> NDArray[np.intp]:
    """Return for each leaf the node of least cost among itself and all that hold it, `(leaves,)`.

    `k*(i) = argmin over k that hold i of S_k`, found for all leaves in one pass from the root. Among equal
    costs the largest segment wins.

    Args:
        tree: the nested segments.
        costs: float64 `(2n-1,)`, for example the entropy of each node's class histogram.
    """
    best = np.arange(tree.size)
    for index in range(tree.size - 1, tree.leaves - 1, -1):
        for child in tree.children[index - tree.leaves]:
            if costs[best[index]] <= costs[child]:
                best[child] = best[index]
    return best[: tree.leaves]
