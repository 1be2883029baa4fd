"""Regions as proposals: nodes of merge trees over the superpixels of a boundary map, and pairs of them.

In place of MCG: Arbelaez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation",
PAMI 2011 (ultrametric contours); Arbelaez, Pont-Tuset, Barron, Marques, Malik, "Multiscale Combinatorial
Grouping", CVPR 2014 (several scales on the same superpixels, pairs of regions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.data.proposals.boundaries import Boundaries
from kseg.data.proposals.found import Proposals, member_boxes
from kseg.data.transforms.resize import resize_image
from kseg.errors import require
from kseg.segments.borders import Borders, borders
from kseg.segments.labels import Labels
from kseg.segments.tree import SegmentTree, merge

# Before the watershed: smoothing, and how many levels of strength are told apart; noise then has no basins.
_SIGMA = 1.0
_LEVELS = 64
# Of more superpixels than this, those with the faintest borders are merged first: it bounds time and memory.
_MOST_SUPERPIXELS = 1500
# A pair of regions counts as this share of the weaker one: few of them are objects.
_PAIR = 0.6
# Power of the share of the image that scores are multiplied with: of two equal outlines the larger is first.
_SIZE = 0.05
# Pairs that each tree gives for each proposal that is kept, and how alike (IoU) two of these may be.
_PAIRS = 2
_ALIKE = 0.9
_BLOCK = 256


def regions(image: NDArray[np.uint8], finds: Sequence[Boundaries], count: int) -> Proposals:
    """Return at most `count` regions of a uint8 `(H, W, 3)` RGB image with their masks.

    Args:
        image: the image.
        finds: what finds boundaries, at least one; where its regions are fewer than `count`, those of the
            next follow, on the pieces that both kinds of superpixels cut the image into.
        count: most regions.
    """
    found = _regions(image, finds[0], count)
    for find in finds[1:]:
        if len(found) < count:
            found = _followed(found, _regions(image, find, count), count)
    return found


def _followed(found: Proposals, after: Proposals, count: int) -> Proposals:
    """Return all of `found`, then what is new in `after`, `count` at most."""
    superpixels, members = found.regions()
    other, other_members = after.regions()
    ids = superpixels.astype(np.int64) * other_members.shape[1] + other
    pairs, pieces = np.unique(ids, return_inverse=True)
    pieces = pieces.reshape(ids.shape)
    first, second = np.divmod(pairs, other_members.shape[1])
    joined = np.concatenate([members[:, first], other_members[:, second]])
    last = found.scores[-1]
    scores = np.minimum(after.scores * (last / max(after.scores[0], 1e-9)), last)
    kept = _distinct(joined, np.bincount(pieces.ravel()), count)
    return Proposals(
        boxes=np.concatenate([found.boxes, after.boxes])[kept],
        scores=np.concatenate([found.scores, scores])[kept].astype(np.float32),
        superpixels=pieces.astype(np.int32),
        members=joined[kept],
    )


def _regions(image: NDArray[np.uint8], find: Boundaries, count: int) -> Proposals:
    """Return at most `count` regions over one kind of boundaries.

    Superpixels are the basins of the boundary map. One tree merges them by that map, another by the map of
    the image at half its size, which holds less detail. Candidates are all nodes of both trees, and all pairs
    of nodes that touch while both are there. A node's score is the strength of the boundary at which it is
    merged away (the level up to which it stands in the ultrametric contour map), times a small power of its
    size; a pair's is 0.6 of the weaker's. Of two with an IoU above 0.9 the better is kept.
    """
    strength = find(image)
    labels = _superpixels(strength)
    areas = np.bincount(labels.ravel())
    members, scores = [], []
    for scale in (strength, _coarse(image, find)):
        found = borders(labels, scale, np.maximum)
        tree = merge(len(areas), found)
        for candidates in _candidates(tree, found, most=_PAIRS * count):
            members.append(candidates.members)
            share = candidates.members @ areas / areas.sum()
            scores.append(candidates.scores * share**_SIZE)
    all_members, all_scores = np.concatenate(members), np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    kept = order[_distinct(all_members[order], areas, count)]
    superpixels = labels.astype(np.int32)
    boxes, _ = member_boxes(superpixels, all_members[kept])
    return Proposals(
        boxes=boxes,
        scores=all_scores[kept].astype(np.float32),
        superpixels=superpixels,
        members=all_members[kept],
    )


def _coarse(image: NDArray[np.uint8], find: Boundaries) -> NDArray[np.float32]:
    """Return the boundary map of the image at half its size, enlarged."""
    height, width = image.shape[:2]
    half = find(resize_image(image, (max(height // 2, 1), max(width // 2, 1))))
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR))


def _superpixels(strength: NDArray[np.float32]) -> Labels:
    """Return the basins of a boundary map, 0 to n-1."""
    segmentation = require("skimage.segmentation", "refine")
    smooth = np.asarray(cv2.GaussianBlur(strength, (0, 0), _SIGMA))
    basins = segmentation.watershed(np.round(smooth * _LEVELS).astype(np.uint8))
    labels = np.unique(basins, return_inverse=True)[1].reshape(strength.shape)
    count = int(labels.max()) + 1
    if count <= _MOST_SUPERPIXELS:
        return labels
    return merge(count, borders(labels, strength, np.maximum)).cut(_MOST_SUPERPIXELS)[labels]


@dataclass(frozen=True)
class _Candidates:
    """Regions as bool `(N, S)` rows of superpixels, and how strong the boundary around each is, `(N,)`."""

    members: NDArray[np.bool_]
    scores: NDArray[np.float64]


def _candidates(tree: SegmentTree, found: Borders, most: int) -> list[_Candidates]:
    """Return the nodes of a tree, and the `most` strongest pairs of neighbouring nodes."""
    members = np.zeros((tree.size, tree.leaves), bool)
    order, start, stop = tree.leaf_order()
    for node in range(tree.size):
        members[node, order[start[node] : stop[node]]] = True
    stands = tree.stands()
    pairs = tree.neighbours(found.edges)
    weaker = _PAIR * stands[pairs].min(axis=1, initial=np.inf)
    strongest = np.argsort(-weaker, kind="stable")[:most]
    pairs = pairs[strongest]
    return [
        _Candidates(members, stands),
        _Candidates(members[pairs[:, 0]] | members[pairs[:, 1]], weaker[strongest]),
    ]


def _distinct(members: NDArray[np.bool_], areas: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the first `count` rows that are not nearly the same as one before."""
    root = np.sqrt(areas).astype(np.float32)
    kept: list[int] = []
    held = np.zeros((min(count, len(members)), len(areas)), np.float32)
    sizes = (members @ areas).astype(np.float32)
    for first in range(0, len(members), _BLOCK):
        rows = members[first : first + _BLOCK] * root
        size = sizes[first : first + len(rows), None]
        new = np.asarray(~_alike(rows @ held[: len(kept)].T, size, sizes[kept]).any(axis=1))
        among = _alike(rows @ rows.T, size, size[:, 0])
        for row in range(len(rows)):
            if not new[row]:
                continue
            new[row + 1 :] &= ~among[row, row + 1 :]
            held[len(kept)] = rows[row]
            kept.append(first + row)
            if len(kept) == count:
                return np.array(kept, np.intp)
    return np.array(kept, np.intp)


def _alike(
    common: NDArray[np.float32], size: NDArray[np.float32], other: NDArray[np.float32]
) -> NDArray[np.bool_]:
    return common > _ALIKE * (size + other - common)
