"""Selective search (Uijlings et al., IJCV 2013): regions that merge by colour, texture, size and fill."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import from_corners
from kseg.data.proposals.contrib import ximgproc
from kseg.data.proposals.found import Proposals


def selective_search(image: NDArray[np.uint8], quality: bool, seed: int) -> Proposals:
    """Return all boxes of a uint8 `(H, W, 3)` RGB image, ranked as `kseg.data.proposals.propose` tells."""
    search = ximgproc().segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    if quality:
        search.switchToSelectiveSearchQuality()
    else:
        search.switchToSelectiveSearchFast()
    # The set of boxes is the same at every call, their order is not.
    found = np.unique(np.asarray(search.process(), np.int32).reshape(-1, 4), axis=0)
    found = found[np.argsort(-found[:, 2] * found[:, 3], kind="stable")]
    rank = np.random.default_rng(seed).random(len(found)) * np.arange(1, len(found) + 1)
    boxes = from_corners(found[np.argsort(rank, kind="stable")])
    # It has no score; this one says the order.
    return Proposals(boxes=boxes, scores=(1 / np.arange(1, len(boxes) + 1)).astype(np.float32))
