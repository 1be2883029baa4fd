"""A conditional random field over superpixels.

Farabet, Couprie, Najman, LeCun, "Learning Hierarchical Features for Scene Labeling", TPAMI 2013,
section 4.2. Its figures alpha, beta, gamma are known here from secondary texts only, so they are arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.checks import check_choice
from kseg.inference.distributions import log_scores, probabilities
from kseg.segments.borders import Borders, borders
from kseg.segments.labels import region_means
from kseg.semantic.refine.arguments import checked
from kseg.semantic.refine.expansion import Potts, alpha_expansion
from kseg.semantic.refine.scores import Floats, Image, check_sizes
from kseg.semantic.refine.superpixels import Superpixels

UNARIES = ("exp", "log")
# By how much the chosen class leads in log-probability where the network had a tie.
_LEAD = np.float32(1e-3)


class SuperpixelCRF:
    """Labels superpixels so that neighbours without a visible border between them agree.

    The energy of a labelling l, with d_i the mean class distribution of superpixel i and a_i its best class:

    - for each pixel of i, when l_i is not a_i: `exp(-alpha * d_i[l_i])` (`unary="exp"`, the paper), or
      `-log d_i[l_i]` for every label (`unary="log"`);
    - for each pair of neighbouring pixels across a border whose sides differ in label:
      `gamma * exp(-beta * contrast)`, contrast being the distance of the two pixels' colours, channels
      in 0-1.

    So it is the energy of a field over pixels in which the pixels of a superpixel have one label. It
    is lowered from the best classes on by alpha-expansion (`expansion.alpha_expansion`).

    Args:
        alpha: how much a likely class costs less than an unlikely one.
        beta: how fast a border's cost falls with its contrast.
        gamma: weight of borders. The default is the paper's, as alpha and beta are; with this
            reading of the energy it wipes out small objects. With `unary="log"` 3 is a good start.
        unary: `"exp"` or `"log"`.
        cycles: rounds over the classes at most.
        **superpixels: arguments of `Superpixels`.

    Raises:
        UsageError: if an argument is out of range.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 20.0,
        gamma: float = 200.0,
        unary: str = "exp",
        cycles: int = 10,
        **superpixels: Any,
    ) -> None:
        self.alpha = checked("alpha", alpha, 0, 1e6)
        self.beta = checked("beta", beta, 0, 1e6)
        self.gamma = checked("gamma", gamma, 0, 1e9)
        self.unary = check_choice("unary", unary, UNARIES)
        self.cycles = checked("cycles", cycles, 1, 1000, whole=True)
        self.superpixels = Superpixels(**superpixels)

    def energy(self, distributions: NDArray[np.float64], sizes: NDArray[np.intp], edges: Borders) -> Potts:
        """Return the energy over superpixels.

        Args:
            distributions: `(N, C)` mean class distribution of each superpixel.
            sizes: `(N,)` pixels of each.
            edges: their borders.
        """
        if self.unary == "log":
            cost = -np.log(np.maximum(distributions, np.finfo(np.float32).tiny))
        else:
            cost = np.exp(-self.alpha * distributions)
            cost[np.arange(len(cost)), distributions.argmax(axis=1)] = 0
        weights = self.gamma * edges.sums(np.exp(-self.beta * edges.contrast))
        return Potts.rounded(cost * sizes[:, None], edges.edges, weights)

    def __call__(self, image: Image, logits: Floats) -> Floats:
        """Return float32 `(H, W, C)`, the same at all pixels of a superpixel.

        It is the log of the mean distribution in which the class that the field chose and the most probable
        class have exchanged their probabilities: the argmax is the field's, the confidence the network's.
        """
        check_sizes(image, logits)
        labels = self.superpixels(image)
        means = region_means(probabilities(logits), labels)
        potts = self.energy(means, np.bincount(labels.ravel()), borders(labels, image))
        best = means.argmax(axis=1)
        choice, _ = alpha_expansion(potts, best, self.cycles)
        scores = log_scores(means.astype(np.float32))
        rows = np.flatnonzero(choice != best)
        highest, other = scores[rows, best[rows]], scores[rows, choice[rows]]
        scores[rows, best[rows]] = other
        scores[rows, choice[rows]] = np.maximum(highest, other + _LEAD)
        return scores[labels]
