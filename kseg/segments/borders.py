"""Which regions of an image touch, and what lies along their borders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.segments.labels import Labels

Doubles = NDArray[np.float64]
# Of the values (P, ...) on this side and on the other side of a border: one number for each pair, (P,).
Measure = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Borders:
    """The pairs of regions that share a border, `E` of them.

    Args:
        edges: intp `(E, 2)`: the two regions, the smaller id first, each pair once.
        pair_edge: intp `(P,)`: for each pair of neighbouring pixels across a border, its edge.
        contrast: float64 `(P,)`: what was measured at each of these pairs; see `borders`.
    """

    edges: NDArray[np.intp]
    pair_edge: NDArray[np.intp]
    contrast: Doubles

    @property
    def length(self) -> Doubles:
        """Pairs of pixels across each border, `(E,)`."""
        return np.bincount(self.pair_edge, minlength=len(self.edges)).astype(np.float64)

    def sums(self, values: Doubles) -> Doubles:
        """Return the sum over each border, `(E,)`, of one value per pair of pixels, `(P,)`."""
        return np.asarray(np.bincount(self.pair_edge, values, minlength=len(self.edges)), np.float64)

    def means(self, values: Doubles) -> Doubles:
        """Return the mean over each border, `(E,)`, of one value per pair of pixels, `(P,)`."""
        return self.sums(values) / self.length


def color_distance(here: NDArray[Any], there: NDArray[Any]) -> NDArray[Any]:
    """Return the Euclidean distance of colours `(P, 3)` in 0-255, channels taken as 0-1.

    From 0 (equal) to sqrt(3) (black and white): the norm of the image's gradient across the border.
    """
    return np.sqrt(np.square((here - there) / 255).sum(axis=-1))


def borders(labels: Labels, values: NDArray[Any], measure: Measure = color_distance) -> Borders:
    """Find the borders between regions, over the four neighbours of every pixel.

    Args:
        labels: region ids `(H, W)`, 0 to n-1.
        values: `(H, W, ...)`: what is measured across the borders, an image for example; taken as float64.
        measure: makes one number of the values of two neighbouring pixels.
    """
    count = int(labels.max()) + 1
    keys, contrasts = [], []
    for axis in (0, 1):
        one, other = _shifted(labels, axis)
        across = one != other
        low, high = np.minimum(one, other)[across], np.maximum(one, other)[across]
        keys.append(low * count + high)
        contrasts.append(measure(*(part[across].astype(np.float64) for part in _shifted(values, axis))))
    unique, pair_edge = np.unique(np.concatenate(keys), return_inverse=True)
    edges = np.stack(np.divmod(unique, count), axis=1)
    return Borders(edges, pair_edge, np.concatenate(contrasts))


def _shifted(values: NDArray, axis: int) -> tuple[NDArray, NDArray]:
    """Every pixel but the last along `axis`, and the one after it."""
    if axis == 0:
        return values[:-1], values[1:]
    return values[:, :-1], values[:, 1:]
