"""A tree of nested segments over superpixels, and the cover of it that is purest.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3, and the same authors' "Scene Parsing with Multiscale
Feature Learning, Purity Trees, and Optimal Covers", ICML 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.errors import require
from kseg.semantic.refine.arguments import EXTRA
from kseg.semantic.refine.regions import borders
from kseg.semantic.refine.scores import Image
from kseg.semantic.refine.superpixels import Labels

LINKAGES = ("average", "mst")

Doubles = NDArray[np.float64]


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


def build_tree(labels: Labels, image: Image, linkage: str = "average", sigma: float = 1.0) -> SegmentTree:
    """Merge superpixels, those with the faintest border first, until one segment is left.

    The contrast of a border is the mean colour difference across it in the smoothed image.

    Args:
        labels: superpixel ids `(H, W)`, 0 to n-1.
        image: uint8 `(H, W, 3)`.
        linkage: contrast between merged segments: `"average"` over their whole common border, as in
            ultrametric contour maps (TPAMI version), or `"mst"`, the faintest part of it: the minimum
            spanning tree (ICML version).
        sigma: width in pixels of the Gaussian that smooths the image first; 0: none.

    Raises:
        MissingExtraError: if scikit-image is not installed.
    """
    graph = require("skimage.graph", EXTRA)
    smooth = image.astype(np.float32)
    if sigma:
        smooth = np.asarray(cv2.GaussianBlur(smooth, (0, 0), sigma), np.float32)
    found = borders(labels, smooth)
    count = int(labels.max()) + 1
    contrast, length = found.means(found.contrast), found.length
    rag = graph.RAG()
    for node in range(count):
        rag.add_node(node, labels=[node])
    for (one, other), weight, pixels in zip(found.edges.tolist(), contrast, length, strict=True):
        rag.add_edge(one, other, weight=float(weight), count=float(pixels))
    children: list[tuple[int, int]] = []
    strength: list[float] = []
    node_of = list(range(count))

    def record(merged: Any, one: int, other: int) -> None:
        # scikit-image merges in place: `other` is from now on the union.
        children.append((node_of[one], node_of[other]))
        strength.append(merged[one][other]["weight"])
        node_of[other] = count + len(children) - 1

    graph.merge_hierarchical(
        np.arange(count),
        rag,
        thresh=np.inf,
        rag_copy=False,
        in_place_merge=True,
        merge_func=record,
        weight_func=_LINKAGES[linkage],
    )
    return SegmentTree(count, np.array(children, np.intp).reshape(-1, 2), np.array(strength, np.float64))


def _edge(graph: Any, node: int, neighbour: int) -> tuple[float, float]:
    data = graph[node].get(neighbour)
    return (0.0, 0.0) if data is None else (data["weight"], data["count"])


def _average(graph: Any, one: int, other: int, neighbour: int) -> dict[str, float]:
    (weight, count), (weight_2, count_2) = _edge(graph, one, neighbour), _edge(graph, other, neighbour)
    total = count + count_2
    return {"weight": (weight * count + weight_2 * count_2) / total, "count": total}


def _faintest(graph: Any, one: int, other: int, neighbour: int) -> dict[str, float]:
    known = [graph[node][neighbour]["weight"] for node in (one, other) if neighbour in graph[node]]
    return {"weight": min(known)}


_LINKAGES: dict[str, Callable[..., dict[str, float]]] = {"average": _average, "mst": _faintest}


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
