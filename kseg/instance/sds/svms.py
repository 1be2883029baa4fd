"""Linear SVMs over the features, one for each class, with negatives mined from all images.

R-CNN's training as SDS has it (`region_classification/train_svms.m`): the first round learns from the true
objects; the second, latent, from the proposal of each object that the first round scores best.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.errors import require
from kseg.instance.sds.candidates import Overlaps
from kseg.instance.sds.features import Features
from kseg.progress import Say

# Settings of the release.
COST, BIAS, POSITIVE_WEIGHT = 1e-3, 10.0, 2.0
# Overlap below which a region is a negative, and above which a proposal may stand for an object.
NEGATIVE, LATENT = 0.2, 0.5
# Negatives with a score above the first are taken, and those below the second are dropped again.
HARD, EASY = -1.0001, -1.2
# New negatives of a class after which it is trained again.
RETRAIN = 2000
# Where a class has no object to learn from: below what a detection must have.
_NEVER = -3.0


@dataclass(frozen=True, eq=False)
class Linear:
    """Margins are `features @ weights + constants`, with weights `(D, C - 1)` and constants `(C - 1,)`."""

    weights: NDArray[np.float32]
    constants: NDArray[np.float32]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the margins of features `(N, D)`: `(N, C - 1)`."""
        return features @ self.weights + self.constants


class _Negatives:
    """The negatives that a class learns from at present."""

    def __init__(self, images: Sequence[Overlaps]) -> None:
        self.held = [np.zeros(len(found), bool) for found in images]
        self._features: list[NDArray[np.float32]] = []
        self._places: list[NDArray[np.intp]] = []
        self.new = 0

    def __len__(self) -> int:
        return sum(map(len, self._places))

    def add(self, place: int, rows: NDArray[np.intp], features: NDArray[np.float32]) -> None:
        if not len(rows):
            return
        self.held[place][rows] = True
        self._features.append(features[rows])
        self._places.append(np.stack([np.full(len(rows), place), rows], axis=1))
        self.new += len(rows)

    def vectors(self) -> NDArray[np.float32]:
        """Return all features, `(N, D)`; there must be some."""
        self._features, self._places = [np.concatenate(self._features)], [np.concatenate(self._places)]
        return self._features[0]

    def drop(self, scores: NDArray[Any]) -> None:
        """Drop what is easy by now; `scores` are those of `vectors`."""
        stay = scores >= EASY
        for place, row in self._places[0][~stay]:
            self.held[place][row] = False
        self._features, self._places = [self._features[0][stay]], [self._places[0][stay]]
        self.new = 0


def train_svms(
    features: Features,
    images: Sequence[Overlaps],
    classes: int,
    *,
    passes: int = 2,
    seed: int = 0,
    say: Say,
) -> tuple[Linear, list[list[int]]]:
    """Return the SVMs of classes 1 to `classes - 1`, and how many positives and negatives each last had.

    Args:
        features: of all regions.
        images: their overlaps.
        classes: with the background.
        passes: over all images in each round, at most; a pass that finds nothing new is the last.
        seed: of the solver.
        say: takes a line about each round.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
    """
    scale = features.scale()
    first = [_truths(images, kind) for kind in range(1, classes)]
    found = Linear(
        np.zeros((features.of(0).shape[1], classes - 1), np.float32), np.full(classes - 1, _NEVER, np.float32)
    )
    negatives = [_Negatives(images) for _ in range(1, classes)]
    counts: list[list[int]] = []
    for round_number, chosen in enumerate((first, None), start=1):
        positives = chosen if chosen is not None else latent(features, images, found, classes)
        vectors = [_vectors(features, rows) for rows in positives]
        _mine(features, images, vectors, negatives, found, scale, passes, seed)
        counts = [[len(own), len(bad)] for own, bad in zip(vectors, negatives, strict=True)]
        total = np.array(counts).sum(axis=0)
        say(f"SVMs, round {round_number}: {total[0]} positives, {total[1]} hard negatives")
    return found, counts


def _truths(images: Sequence[Overlaps], kind: int) -> list[tuple[int, int]]:
    """Return place and number of the objects of a class; objects are the first regions of an image."""
    return [
        (place, int(row)) for place, each in enumerate(images) for row in np.flatnonzero(each.classes == kind)
    ]


def latent(
    features: Features, images: Sequence[Overlaps], found: Linear, classes: int
) -> list[list[tuple[int, int]]]:
    """Return place and number of the region that stands for each object, by class.

    It is the proposal of the best score among those with an overlap above 0.5; the object itself where there
    is none.
    """
    positives: list[list[tuple[int, int]]] = [[] for _ in range(1, classes)]
    for place, each in enumerate(images):
        scores = found(features.of(place))
        count = len(each.classes)
        for row, kind in enumerate(each.classes):
            near = count + np.flatnonzero(each.masks[count:, row] > LATENT)
            best = int(near[scores[near, kind - 1].argmax()]) if len(near) else row
            positives[kind - 1].append((place, best))
    return positives


def _vectors(features: Features, rows: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Return the features of regions, `(N, D)`, read image by image."""
    if not rows:
        return np.zeros((0, 1), np.float32)
    places = np.array(rows)
    return np.concatenate(
        [features.of(int(place))[places[places[:, 0] == place, 1]] for place in np.unique(places[:, 0])]
    )


def _mine(
    features: Features,
    images: Sequence[Overlaps],
    vectors: list[NDArray[np.float32]],
    negatives: list[_Negatives],
    found: Linear,
    scale: float,
    passes: int,
    seed: int,
) -> None:
    """Go through the images for hard negatives, and train a class whenever it has enough new ones."""
    # With other positives than before, all classes are trained first.
    for kind, own in enumerate(vectors):
        if len(own):
            _train(found, kind, own, negatives[kind], scale, seed)
    for _ in range(passes):
        new = 0
        for place, each in enumerate(images):
            given = features.of(place)
            scores = found(given)
            for kind, own in enumerate(vectors):
                if not len(own):
                    continue
                held = negatives[kind]
                # Until a class is trained, everything is hard.
                hard = scores[:, kind] > HARD if found.weights[:, kind].any() else np.ones(len(each), bool)
                hard &= (each.best(kind + 1) < NEGATIVE) & ~each.crowded & ~held.held[place]
                held.add(place, np.flatnonzero(hard), given)
                new += int(hard.sum())
                if held.new >= RETRAIN:
                    _train(found, kind, own, held, scale, seed)
        for kind, own in enumerate(vectors):
            if len(own) and negatives[kind].new:
                _train(found, kind, own, negatives[kind], scale, seed)
        if not new:
            break


def _train(
    found: Linear, kind: int, own: NDArray[np.float32], held: _Negatives, scale: float, seed: int
) -> None:
    """Train one class in place; the scale of the features goes into the weights."""
    svm: Any = require("sklearn.svm", "sds")
    if not len(held):
        return
    bad = held.vectors()
    solver = svm.LinearSVC(
        C=COST,
        loss="hinge",
        dual=True,
        intercept_scaling=BIAS,
        class_weight={1: POSITIVE_WEIGHT},
        random_state=seed,
        max_iter=2000,
    )
    with warnings.catch_warnings():
        # Nearly there is good enough: it is trained again with other negatives.
        warnings.simplefilter("ignore")
        solver.fit(
            np.concatenate([own, bad]) * scale, np.concatenate([np.ones(len(own)), -np.ones(len(bad))])
        )
    found.weights[:, kind] = solver.coef_[0] * scale
    found.constants[kind] = solver.intercept_[0]
    held.drop(bad @ found.weights[:, kind] + found.constants[kind])
