"""What refines regions, learned: coarse masks of each class, then the rule for superpixels.

SDS, section 3.4, and `refinement/` of its code: 100 logistic regressions for each class over the features of
proposals that overlap an object by 0.7 and more; then one more over two numbers of each superpixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.instance.sds.candidates import Candidates, near_objects
from kseg.instance.sds.crops import warped, with_context
from kseg.instance.sds.features import Features, cells_of
from kseg.instance.sds.logistic import fit_logistic, sigmoid
from kseg.instance.sds.outputs import CELLS
from kseg.instance.sds.refinement import superpixel_facts
from kseg.progress import Progress, Say

# Class, the two numbers of each judged superpixel `(K, 2)`, and whether it is the object's `(K,)`.
_Facts = tuple[int, NDArray[Any], NDArray[Any]]
# Overlap with its object that a region needs, and the release's C of both stages.
ENOUGH, COST, RULE_COST = 0.7, 0.01, 1.0
# Superpixels of the second stage have more than 100 pixels in an image of VOC's size.
_LEAST_SHARE = 100 / (500 * 375)
# Regions of a class that are learned from at most; with fewer than the second number it takes the fit of all
# classes together.
_MOST, _LEAST = 4000, 20
# Without anything to learn from: the region's own mask, and its own superpixels.
_OWN_MASK, _OWN_RULE = (8.0, -4.0), (0.0, 1.0, -0.5)


@dataclass(frozen=True, eq=False)
class Refiner:
    """Of each class but the background: coarse masks as a dense layer, and the rule of `refinement.refined`.

    Args:
        weights: `(D + 100, C - 1, 100)`; features first, then the cells of the region's mask.
        constants: `(C - 1, 100)`.
        rules: `(C - 1, 3)`.
    """

    weights: NDArray[np.float32]
    constants: NDArray[np.float32]
    rules: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Lessons:
    """Regions and their objects: place of the image, numbers of region and object, class; what is true."""

    place: NDArray[np.int64]
    row: NDArray[np.int64]
    item: NDArray[np.int64]
    kind: NDArray[np.int64]
    features: NDArray[np.float32]
    targets: NDArray[np.bool_]


def train_refiner(
    features: Features,
    candidates: Candidates,
    classes: int,
    *,
    seed: int = 0,
    say: Say,
    progress: Progress,
) -> Refiner:
    """Return the refiner of classes 1 to `classes - 1`.

    The rule for superpixels is learned from coarse masks of images that these were not learned from (in two
    halves): coarse masks of their own images are better than any that will be met.

    Args:
        features: of all regions.
        candidates: the regions, of a method with masks.
        classes: with the background.
        seed: of the drawing.
        say: takes a line about each stage.
        progress: wraps the loops over the images.
    """
    scale = features.scale()
    lessons = _lessons(features, candidates, np.random.default_rng(seed), progress)
    say(f"refiner: {len(lessons.row)} regions with an overlap of {ENOUGH} and more")
    every = np.ones(len(lessons.row), bool)
    weights, constants = _coarse(lessons, every, classes, scale)
    half = lessons.place % 2 == 0
    rules = np.tile(_OWN_RULE, (classes - 1, 1))
    facts: list[_Facts] = []
    if half.any() and not half.all():
        for judged in (half, ~half):
            learned = _coarse(lessons, ~judged, classes, scale)
            facts += _facts(lessons, judged, learned, candidates, progress)
    for kind in range(classes - 1):
        rules[kind] = _rule([entry for entry in facts if entry[0] == kind], facts)
    return Refiner(weights.astype(np.float32), constants.astype(np.float32), rules)


def _lessons(
    features: Features, candidates: Candidates, random: np.random.Generator, progress: Progress
) -> _Lessons:
    """Return at most `_MOST` regions of each class with what the network says of them, and their objects."""
    chosen = near_objects(candidates.overlaps, "region", ENOUGH, _MOST, random)
    given, targets = [], []
    places = np.unique(chosen[:, 0])
    for place in progress(places.tolist(), len(places), "masks of objects"):
        here = chosen[chosen[:, 0] == place]
        given.append(features.rows(place, here[:, 1]))
        scene = candidates.scene(place)
        for _, row, item, _ in here:
            wide = with_context(scene.box(row))
            mask = scene.objects.mask(int(item)).astype(np.uint8)
            targets.append(cells_of(warped(mask, wide, candidates.size, nearest=True, outside=0)) >= 0.5)
    return _Lessons(
        place=chosen[:, 0],
        row=chosen[:, 1],
        item=chosen[:, 2],
        kind=chosen[:, 3] - 1,
        features=np.concatenate(given) if given else np.zeros((0, 0), np.float32),
        targets=np.array(targets, bool).reshape(-1, CELLS**2),
    )


def _coarse(
    lessons: _Lessons, learned: NDArray[np.bool_], classes: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights `(D + 100, C - 1, 100)` and constants `(C - 1, 100)` from some of the lessons."""
    depth = lessons.features.shape[1]
    factors = np.full(depth, scale, np.float32)
    factors[-(CELLS**2) :] = 1

    def fitted(rows: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights, constants = fit_logistic(lessons.features[rows] * factors, lessons.targets[rows], COST)
        return weights * factors[:, None], constants

    if learned.sum() >= _LEAST:
        common = fitted(learned)
    else:
        own = np.zeros((depth, CELLS**2))
        own[-(CELLS**2) :] = _OWN_MASK[0] * np.eye(CELLS**2)
        common = own, np.full(CELLS**2, _OWN_MASK[1])
    found = []
    for kind in range(classes - 1):
        rows = learned & (lessons.kind == kind)
        few = rows.sum() < _LEAST or rows.sum() == learned.sum()
        found.append(common if few else fitted(rows))
    return np.stack([weights for weights, _ in found], axis=1), np.stack([each for _, each in found])


def _facts(
    lessons: _Lessons,
    judged: NDArray[np.bool_],
    coarse: tuple[NDArray[np.float64], NDArray[np.float64]],
    candidates: Candidates,
    progress: Progress,
) -> list[_Facts]:
    """Return what the rule is learned from, of some lessons."""
    found = []
    weights, constants = coarse
    places = np.unique(lessons.place[judged])
    for place in progress(places.tolist(), len(places), "superpixels of objects"):
        scene = candidates.scene(place)
        superpixels, members = scene.proposals.regions()
        areas = np.bincount(superpixels.reshape(-1), minlength=members.shape[1])
        large = areas > _LEAST_SHARE * superpixels.size
        count = len(scene.objects)
        for index in np.flatnonzero(judged & (lessons.place == place)):
            row, kind = lessons.row[index], lessons.kind[index]
            logits = lessons.features[index] @ weights[:, kind] + constants[kind]
            grid = sigmoid(logits).reshape(CELLS, CELLS)
            seen, numbers = superpixel_facts(superpixels, areas, grid, scene.box(row), members[row - count])
            inside = np.bincount(
                superpixels[scene.objects.mask(int(lessons.item[index]))], minlength=len(areas)
            )
            kept = large[seen]
            found.append((int(kind), numbers[kept], 2 * inside[seen][kept] >= areas[seen][kept]))
    return found


def _rule(own: list[_Facts], every: list[_Facts]) -> NDArray[np.float64]:
    """Return the rule of a class, else of all classes, else the one that leaves regions alone."""
    for facts in (own, every):
        if len(facts) >= _LEAST:
            numbers = np.concatenate([each for _, each, _ in facts])
            targets = np.concatenate([each for _, _, each in facts])
            if 0 < targets.sum() < len(targets):
                weights, constant = fit_logistic(numbers, targets[:, None], RULE_COST)
                return np.append(weights[:, 0], constant)
    return np.array(_OWN_RULE)
