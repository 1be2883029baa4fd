"""High-dimensional Gaussian filtering on a permutohedral lattice, as three kinds of sparse matrices.

Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010; the
embedding and its scale as in the release of Krähenbühl and Koltun, NIPS 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.errors import UsageError, require
from kseg.semantic.refine.arguments import EXTRA
from kseg.semantic.refine.scores import Floats

Integers = NDArray[np.int64]


class Permutohedral:
    """Gaussian filter of values at points of a space: `out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j`, nearly.

    Every point spreads its value over the d + 1 corners of the lattice simplex that holds it (splat), the
    corners are blurred along d + 1 directions by (1/2, 1, 1/2), and the point gathers from them (slice).
    An approximation: the true kernel is smoothed by the interpolation, and corners that no point touches do
    not pass anything on, so the result is near the Gaussian's only where points lie close. Its overall
    scale is not the Gaussian's either; divide by filtered ones where that matters.

    Built once per image, used for every filtering of it.

    Args:
        features: float `(N, d)`, in units of the kernel's standard deviation.

    Raises:
        UsageError: if the features are not finite, or spread over more lattice points than integers count.
        MissingExtraError: without SciPy.
    """

    def __init__(self, features: NDArray[np.floating]) -> None:
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or not features.size or not np.isfinite(features).all():
            raise UsageError(
                f"Permutohedral needs finite features (N, d). Received: an array of shape {features.shape}"
            )
        sparse = require("scipy.sparse", EXTRA)
        count, dimensions = features.shape
        keys, weights = _corners(features)
        codes, steps = _codes(keys.reshape(-1, dimensions))
        corners, index = np.unique(codes, return_inverse=True)
        rows = np.arange(0, index.size + 1, dimensions + 1)
        self._slice = sparse.csr_matrix((weights.reshape(-1), index, rows), shape=(count, corners.size))
        self._splat = self._slice.T.tocsr()
        self._blurs = [_blur(sparse, corners, step) for step in steps]
        self._gain = np.float32(1 / (1 + 2.0**-dimensions))

    @property
    def corners(self) -> int:
        """How many lattice points hold values."""
        return int(self._splat.shape[0])

    def __call__(self, values: Floats) -> Floats:
        """Filter float32 `(N, C)`."""
        lattice = self._splat @ values
        for blur in self._blurs:
            lattice = blur @ lattice
        return (self._slice @ lattice) * self._gain


def _corners(features: Floats) -> tuple[Integers, Floats]:
    """Return the simplex corners of every point, int64 `(N, d + 1, d)`, and their weights `(N, d + 1)`.

    The last coordinate of a corner is left out: the d + 1 coordinates of a lattice point sum to 0.
    """
    count, dimensions = features.shape
    ways = dimensions + 1
    elevated = _elevate(features)
    nearest = np.rint(elevated / ways)
    excess = nearest.sum(axis=1).astype(np.int64)[:, None]
    nearest *= ways
    # How many coordinates have a larger remainder; of equals the first comes first.
    order = np.argsort(nearest - elevated, axis=1, kind="stable")
    rank = np.empty((count, ways), np.int64)
    np.put_along_axis(rank, order, np.arange(ways)[None], axis=1)
    # Rounding may leave the hyperplane: walk back along the coordinates that were rounded furthest.
    rank += excess
    shift = np.where(rank < 0, ways, np.where(rank > dimensions, -ways, 0))
    rank += shift
    nearest += shift
    remainder = (elevated - nearest) / ways
    sorted_down = np.empty_like(remainder)
    np.put_along_axis(sorted_down, rank, remainder, axis=1)
    weights = np.empty((count, ways), np.float32)
    # In order of falling remainder the barycentric weights are differences of neighbours.
    weights[:, 1:] = (sorted_down[:, :-1] - sorted_down[:, 1:])[:, ::-1]
    weights[:, 0] = 1 - weights[:, 1:].sum(axis=1)
    step = np.arange(ways)[None, :, None]
    moved = step - ways * (rank[:, None, :dimensions] > dimensions - step)
    return nearest[:, None, :dimensions].astype(np.int64) + moved, weights


def _elevate(features: Floats) -> NDArray[np.float64]:
    """Bring `(N, d)` features onto the hyperplane of d + 1 coordinates that sum to 0, scaled to the blur."""
    count, dimensions = features.shape
    index = np.arange(1, dimensions + 1)
    scaled = features * (np.sqrt(2 / 3) * (dimensions + 1) / np.sqrt(index * (index + 1)))
    elevated = np.zeros((count, dimensions + 1))
    # Coordinate j: the sum of all features from j on, less j times the one before.
    elevated[:, :-1] = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    elevated[:, 1:] -= index * scaled
    return elevated


def _codes(keys: Integers) -> tuple[Integers, list[int]]:
    """Return one integer per key `(K, d)`, and what a step along each of the d + 1 directions adds to it.

    Raises:
        UsageError: if the codes do not fit into 62 bits.
    """
    dimensions = keys.shape[1]
    low = keys.min(axis=0) - dimensions
    extent = [int(side) for side in keys.max(axis=0) - low + dimensions + 1]
    places = [1]
    for side in extent:
        places.append(places[-1] * side)
    if places[-1] >= 2**62:
        raise UsageError(
            "DenseCRF: the image spans too many kernel widths for the lattice's integers. "
            "Use larger theta_alpha or theta_beta"
        )
    codes = (keys - low) @ np.array(places[:-1], np.int64)
    # Direction j adds 1 to every coordinate and takes d + 1 from the j-th.
    every = sum(places[:-1])
    return codes, [every - (dimensions + 1) * place for place in places[:-1]] + [every]


def _blur(sparse: Any, corners: Integers, step: int) -> Any:
    """Return the matrix of (1/2, 1, 1/2) along one direction; corners that are not there count as 0."""
    count = corners.size
    at = np.minimum(np.searchsorted(corners, corners + step), count - 1)
    here = np.flatnonzero(corners[at] == corners + step)
    half = np.full(here.size, 0.5, np.float32)
    ahead = sparse.csr_matrix((half, (here, at[here])), shape=(count, count))
    return (sparse.identity(count, np.float32, format="csr") + ahead + ahead.T).tocsr()
