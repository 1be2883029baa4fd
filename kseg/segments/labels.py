"""Maps of superpixel ids, and sums over each superpixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Superpixel ids (H, W): 0 to n-1, each of them present.
Labels = NDArray[np.intp]


def region_sums(values: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
    """Return float64 `(regions, C)`: the sum of `values` `(H, W, C)` over the pixels of each region."""
    flat = labels.ravel()
    count = int(flat.max()) + 1
    channels = values.reshape(flat.size, -1).T
    return np.stack([np.bincount(flat, weights=channel, minlength=count) for channel in channels], axis=1)


def region_means(values: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
    """Return float64 `(regions, C)`: the mean of `values` `(H, W, C)` over the pixels of each region."""
    return region_sums(values, labels) / np.bincount(labels.ravel())[:, None]
