"""Trees of nested segments: superpixels that merge two by two, those with the faintest border first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.segments.borders import Borders, Doubles

# Contrast of a border and pairs of pixels across it.
_Border = tuple[float, float]


@dataclass(frozen=True)
class SegmentTree:
    """Nested segments: nodes 0 to n-1 are superpixels, n to 2n-2 are merges, the last one is the image.

    Args:
        leaves: n, at least 1.
        children: intp `(n-1, 2)`: the two nodes that node `n + k` merges, both with smaller numbers.
        strength: float64 `(n-1,)`: contrast of the border that the merge removed.
    """

    leaves: int
    children: NDArray[np.intp]
    strength: Doubles

    @property
    def size(self) -> int:
        """How many nodes there are, `2n - 1`."""
        return 2 * self.leaves - 1

    def sums(self, leaf_values: NDArray[Any]) -> NDArray[Any]:
        """Return `(2n-1, ...)`: for every node the sum of `leaf_values` `(n, ...)` over its leaves."""
        values = np.empty((self.size, *leaf_values.shape[1:]), leaf_values.dtype)
        values[: self.leaves] = leaf_values
        for index, (one, other) in enumerate(self.children, self.leaves):
            values[index] = values[one] + values[other]
        return values

    def leaf_order(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return leaves in an order in which every node is one run, and each node's first and last + 1."""
        count = self.sums(np.ones(self.leaves, np.intp))
        start = np.zeros(self.size, np.intp)
        for index in range(self.size - 1, self.leaves - 1, -1):
            one, other = self.children[index - self.leaves]
            start[one] = start[index]
            start[other] = start[index] + count[one]
        order = np.empty(self.leaves, np.intp)
        order[start[: self.leaves]] = np.arange(self.leaves)
        return order, start, start + count

    def stands(self) -> Doubles:
        """Return `(2n-1,)`: the strength of the merge that each node goes into; of the last, its own."""
        until = np.zeros(self.size, np.float64)
        until[self.children.ravel()] = np.repeat(self.strength, 2)
        until[-1] = self.strength.max(initial=0)
        return until

    def cut(self, count: int) -> NDArray[np.intp]:
        """Return for each leaf its segment when merging stops at `count` segments.

        Segments are numbered from 0 by their first leaf; there are fewer than `count` when the leaves are.
        """
        segment = np.arange(self.size)
        for index in range(self.size - count, self.leaves - 1, -1):
            segment[self.children[index - self.leaves]] = segment[index]
        _, first, place = np.unique(segment[: self.leaves], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[place]

    def neighbours(self, edges: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return intp `(P, 2)`: all pairs of nodes that touch and are there at one time.

        Args:
            edges: pairs of leaves that touch, `(E, 2)`; see `kseg.segments.borders.Borders`.
        """
        near: list[set[int]] = [set() for _ in range(self.size)]
        pairs = edges.tolist()
        for one, other in pairs:
            near[one].add(other)
            near[other].add(one)
        for index, (one, other) in enumerate(self.children.tolist(), self.leaves):
            near[index] = (near[one] | near[other]) - {one, other}
            for neighbour in sorted(near[index]):
                near[neighbour] -= {one, other}
                near[neighbour].add(index)
                pairs.append([neighbour, index])
        return np.array(pairs, np.intp).reshape(-1, 2)


def merge(leaves: int, found: Borders, linkage: str = "average") -> SegmentTree:
    """Merge regions, those with the faintest border first, until one segment is left.

    The strength of merges never falls from a node to one that holds it, so `strength` is an ultrametric: two
    leaves are as far apart as the merge that joined them (Arbelaez, Maire, Fowlkes, Malik, "Contour Detection
    and Hierarchical Image Segmentation", PAMI 2011).

    Args:
        leaves: how many regions there are.
        found: their borders; every region can be reached from every other.
        linkage: contrast between merged segments: `"average"` over their whole common border, as in
            ultrametric contour maps, or `"mst"`, the faintest part of it: the minimum spanning tree.
    """
    joined = _LINKAGES[linkage]
    near: list[dict[int, _Border]] = [{} for _ in range(leaves)]
    heap: list[tuple[float, int, int]] = []
    contrast, length = found.means(found.contrast).tolist(), found.length.tolist()
    for (one, other), weight, pixels in zip(found.edges.tolist(), contrast, length, strict=True):
        near[one][other] = near[other][one] = (weight, pixels)
        heap.append((weight, one, other))
    heapq.heapify(heap)
    # What the heap says of a pair counts while it is the newest that it was told.
    newest = {(one, other): weight for weight, one, other in heap}
    node_of = list(range(leaves))
    children: list[tuple[int, int]] = []
    strength: list[float] = []
    while heap:
        weight, one, other = heapq.heappop(heap)
        if newest.get((one, other)) != weight:
            continue
        children.append((node_of[one], node_of[other]))
        # Rounding of a mean could else bring it below the one before.
        strength.append(max(weight, strength[-1]) if strength else weight)
        # `other` is from now on the union.
        node_of[other] = leaves + len(children) - 1
        for node in (one, other):
            for neighbour in near[node]:
                newest.pop((node, neighbour), None)
                newest.pop((neighbour, node), None)
        del near[one][other], near[other][one]
        for neighbour, border in near[one].items():
            del near[neighbour][one]
            mine = near[other].get(neighbour)
            near[other][neighbour] = border if mine is None else joined(border, mine)
        near[one] = {}
        for neighbour, border in near[other].items():
            near[neighbour][other] = border
            newest[other, neighbour] = border[0]
            heapq.heappush(heap, (border[0], other, neighbour))
    return SegmentTree(leaves, np.array(children, np.intp).reshape(-1, 2), np.array(strength, np.float64))


def _average(one: _Border, other: _Border) -> _Border:
    (weight, count), (weight_2, count_2) = one, other
    total = count + count_2
    return (weight * count + weight_2 * count_2) / total, total


def _faintest(one: _Border, other: _Border) -> _Border:
    return min(one, other)


_LINKAGES: dict[str, Callable[[_Border, _Border], _Border]] = {"average": _average, "mst": _faintest}
LINKAGES = tuple(_LINKAGES)
