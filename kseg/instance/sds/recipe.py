"""What a trained system holds besides the network's weights: in the spec, under `recipe["sds"]`."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import records
from kseg.data.proposals import Proposer
from kseg.errors import ArtefactError
from kseg.spec import Spec

KEY = "sds"


class Search(records.Record, frozen=True):
    """How regions are proposed: arguments of `Proposer`, and how many of an image are looked at."""

    method: str = "regions"
    boundaries: str | None = None
    quality: bool = False
    max_side: Annotated[int, msgspec.Meta(ge=16)] = 500
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    count: Annotated[int, msgspec.Meta(ge=1)] = 2000

    def proposer(self) -> Proposer:
        """Return what finds them."""
        return Proposer(
            method=self.method,
            boundaries=self.boundaries,
            quality=self.quality,
            max_side=self.max_side,
            seed=self.seed,
        )

    def settled(self) -> Search:
        """Return the same with the boundaries that are chosen here: they depend on what is installed."""
        return msgspec.structs.replace(self, boundaries=self.proposer().boundaries)


class Recipe(records.Record, frozen=True):
    """`recipe["sds"]`.

    Args:
        search: how regions are proposed.
        superpixels: of each class but the background, what decides of a superpixel: weights of its mean
            coarse probability and of its membership, and a constant. None: there is no refiner.
    """

    search: Search = Search()
    superpixels: list[tuple[float, float, float]] | None = None


def recipe_of(spec: Spec) -> Recipe:
    """Return what the spec of a trained system holds.

    Raises:
        ArtefactError: if it holds something else.
    """
    given: Any = spec.recipe.get(KEY, {})
    found = records.convert(given, Recipe, where=f'`recipe["{KEY}"]` of the spec')
    rows = found.superpixels
    if rows is not None and (
        len(rows) != spec.num_classes - 1 or not all(math.isfinite(value) for row in rows for value in row)
    ):
        raise ArtefactError(
            f'`recipe["{KEY}"]` of the spec must have three numbers for each of '
            f"{spec.num_classes - 1} classes"
        )
    return found


def rules(recipe: Recipe) -> NDArray[np.float64] | None:
    """Return `superpixels` as an array `(classes - 1, 3)`."""
    return None if recipe.superpixels is None else np.asarray(recipe.superpixels, np.float64).reshape(-1, 3)
