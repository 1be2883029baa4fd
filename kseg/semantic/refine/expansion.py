"""Potts energies over a graph, lowered by alpha-expansion with SciPy's maximum flow.

Boykov, Veksler, Zabih, "Fast Approximate Energy Minimization via Graph Cuts", TPAMI 2001; the graph of one
move as in Kolmogorov and Zabih, "What Energy Functions Can Be Minimized via Graph Cuts?", TPAMI 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kseg.errors import require
from kseg.semantic.refine.arguments import EXTRA

# SciPy's flows are int32. The sum of all costs is scaled to this, which leaves room for a node's
# terminal edge (its cost and all its borders) and for rounding, and resolves costs to a part in 5e8.
_LARGEST = 2**29

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Potts:
    """The energy `sum_i unary[i, l_i] + sum_ij weight_ij [l_i != l_j]`, in whole numbers.

    Costs are scaled and rounded once, so that every move is compared exactly: an energy that falls in whole
    numbers falls. `unit` is what one whole number stands for.

    Args:
        unary: int64 `(N, C)`, not negative.
        edges: intp `(E, 2)`, no pair twice, no loops.
        weights: int64 `(E,)`, not negative.
        unit: cost of 1.
    """

    unary: Integers
    edges: NDArray[np.intp]
    weights: Integers
    unit: float

    @classmethod
    def rounded(
        cls, unary: NDArray[np.float64], edges: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> Potts:
        """Bring real costs, finite and not negative, to whole numbers that SciPy's flow can hold."""
        total = float(unary.max(axis=1).sum() + weights.sum())
        unit = total / _LARGEST if total > 0 else 1.0
        return cls(
            np.rint(unary / unit).astype(np.int64), edges, np.rint(weights / unit).astype(np.int64), unit
        )

    def energy(self, labels: NDArray[np.intp]) -> int:
        """Return the energy of a labelling `(N,)`, in whole numbers; times `unit` in real ones."""
        own = self.unary[np.arange(len(labels)), labels].sum()
        differ = labels[self.edges[:, 0]] != labels[self.edges[:, 1]]
        return int(own + self.weights[differ].sum())


def expand(potts: Potts, labels: NDArray[np.intp], alpha: int) -> NDArray[np.intp]:
    """Return the best labelling in which any nodes have changed to `alpha`; ties keep their label.

    One minimum cut: nodes on the sink's side take `alpha`.
    """
    sparse = require("scipy.sparse", EXTRA)
    csgraph = require("scipy.sparse.csgraph", EXTRA)
    count = len(labels)
    first, second = potts.edges[:, 0], potts.edges[:, 1]
    # Costs of a pair when neither, only the second, only the first changes; both: 0.
    neither = potts.weights * (labels[first] != labels[second])
    only_second = potts.weights * (labels[first] != alpha)
    only_first = potts.weights * (labels[second] != alpha)
    change = potts.unary[:, alpha] - potts.unary[np.arange(count), labels]
    np.add.at(change, first, only_first - neither)
    np.subtract.at(change, second, only_first)
    source, sink = count, count + 1
    nodes = np.arange(count)
    costs, gains = change > 0, change < 0
    rows = np.concatenate([np.full(costs.sum(), source), nodes[gains], first])
    columns = np.concatenate([nodes[costs], np.full(gains.sum(), sink), second])
    # Not below 0, because the Potts model is a metric.
    capacity = np.concatenate([change[costs], -change[gains], only_second + only_first - neither])
    kept = capacity > 0
    graph = sparse.csr_array(
        (capacity[kept].astype(np.int32), (rows[kept], columns[kept])), shape=(count + 2, count + 2)
    )
    residual = graph - csgraph.maximum_flow(graph, source, sink).flow
    residual.eliminate_zeros()
    reaches_sink = csgraph.breadth_first_order(
        sparse.csr_array(residual.T), sink, directed=True, return_predecessors=False
    )
    result = labels.copy()
    result[reaches_sink[reaches_sink < count]] = alpha
    return result


def alpha_expansion(
    potts: Potts, labels: NDArray[np.intp], cycles: int = 10
) -> tuple[NDArray[np.intp], list[int]]:
    """Lower the energy from `labels` by expansion moves until no label helps, or for `cycles` rounds.

    With two labels the result is the global minimum; with more it is within twice the minimum.

    Args:
        potts: the energy.
        labels: intp `(N,)`, where to start.
        cycles: rounds over all labels at most.

    Returns:
        The labelling, and the energies from the start's on, strictly falling, one per accepted move.
    """
    energies = [potts.energy(labels)]
    unhelpful = 0
    classes = potts.unary.shape[1]
    for move in range(cycles * classes):
        candidate = expand(potts, labels, move % classes)
        energy = potts.energy(candidate)
        if energy < energies[-1]:
            labels, unhelpful = candidate, 0
            energies.append(energy)
            continue
        unhelpful += 1
        if unhelpful == classes:
            break
    return labels, energies
