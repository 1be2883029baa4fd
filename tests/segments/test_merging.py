"""Merging of regions: an ultrametric, exact against merging by hand, and the same at every call."""

from __future__ import annotations

import numpy as np
import pytest

from kseg.segments.borders import Borders, borders
from kseg.segments.labels import region_means, region_sums
from kseg.segments.tree import LINKAGES, SegmentTree, merge


def grid(seed: int, side: int = 6, levels: int = 0) -> tuple[int, Borders]:
    """Squares of 3x3 pixels; the strength of a boundary is drawn for each pixel, of few levels for ties."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.repeat(np.arange(side * side).reshape(side, side), 3, 0), 3, 1)
    strength = random.random(labels.shape)
    if levels:
        strength = np.round(strength * levels) / levels
    return side * side, borders(labels, strength, np.maximum)


def by_hand(leaves: int, found: Borders, linkage: str) -> list[float]:
    """Strengths of all merges, from the pairs of pixels anew after each merge."""
    group = np.arange(leaves)
    strengths = []
    means = found.means(found.contrast)
    while len(np.unique(group)) > 1:
        best = None
        ends = np.sort(group[found.edges], axis=1)
        for pair in np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0):
            mine = (ends == pair).all(axis=1)
            value = means[mine].min()
            if linkage == "average":
                value = (means * found.length)[mine].sum() / found.length[mine].sum()
            if best is None or value < best[0]:
                best = (value, pair)
        assert best is not None
        strengths.append(float(best[0]))
        group[group == best[1][0]] = best[1][1]
    return strengths


@pytest.mark.parametrize("linkage", LINKAGES)
def test_merges_are_those_of_merging_by_hand(linkage: str) -> None:
    for seed in range(3):
        leaves, found = grid(seed)
        np.testing.assert_allclose(merge(leaves, found, linkage).strength, by_hand(leaves, found, linkage))


def leaf_distances(tree: SegmentTree) -> np.ndarray:
    """For each two leaves the strength of the merge that joined them."""
    distance = np.zeros((tree.leaves, tree.leaves))
    held = [[leaf] for leaf in range(tree.leaves)]
    for (one, other), strength in zip(tree.children, tree.strength, strict=True):
        distance[np.ix_(held[one], held[other])] = distance[np.ix_(held[other], held[one])] = strength
        held.append(held[one] + held[other])
    return distance


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_the_tree_is_an_ultrametric(linkage: str, levels: int) -> None:
    leaves, found = grid(4, levels=levels)
    tree = merge(leaves, found, linkage)
    assert (np.diff(tree.strength) >= 0).all()
    distance = leaf_distances(tree)
    # Of any three leaves the two largest distances are equal: d(a, c) <= max(d(a, b), d(b, c)).
    assert (distance[:, None, :] <= np.maximum(distance[:, :, None], distance[None, :, :])).all()
    again = merge(leaves, found, linkage)
    assert np.array_equal(tree.children, again.children)


def test_one_region_is_a_tree() -> None:
    labels = np.zeros((3, 4), np.intp)
    tree = merge(1, borders(labels, np.ones((3, 4)), np.maximum))
    assert (tree.size, tree.children.shape, tree.strength.shape) == (1, (0, 2), (0,))


def test_sums_and_means_of_regions() -> None:
    labels = np.array([[0, 0, 1], [2, 2, 2]])
    values = np.arange(12.0).reshape(2, 3, 2)
    assert region_sums(values, labels).tolist() == [[2, 4], [4, 5], [24, 27]]
    assert region_means(values, labels).tolist() == [[1, 2], [4, 5], [8, 9]]


def members(tree: SegmentTree) -> list[set[int]]:
    """Each node's leaves."""
    sets: list[set[int]] = [{leaf} for leaf in range(tree.leaves)]
    for one, other in tree.children.tolist():
        sets.append(sets[one] | sets[other])
    return sets


@pytest.mark.parametrize("count", [1, 2, 7, 36, 50])
def test_a_cut_stops_merging_at_so_many_segments(count: int) -> None:
    leaves, found = grid(5)
    tree = merge(leaves, found)
    segment = tree.cut(count)
    assert sorted(set(segment)) == list(range(min(count, leaves)))
    groups = [set(np.flatnonzero(segment == key)) for key in range(segment.max() + 1)]
    assert all(group in members(tree) for group in groups)
    assert [min(group) for group in groups] == sorted(min(group) for group in groups)


def test_a_node_stands_until_the_merge_that_it_goes_into() -> None:
    leaves, found = grid(6)
    tree = merge(leaves, found)
    stands = tree.stands()
    for strength, (one, other) in zip(tree.strength, tree.children, strict=True):
        assert stands[one] == stands[other] == strength
    assert stands[-1] == tree.strength[-1]


def test_neighbours_touch_and_are_there_at_one_time() -> None:
    leaves, found = grid(7, side=4)
    tree = merge(leaves, found)
    sets = members(tree)
    touch = {frozenset(edge) for edge in found.edges.tolist()}
    # A node is there from its own merge until that of its parent.
    born = [-1] * leaves + list(range(leaves - 1))
    dies = [leaves] * tree.size
    for step, pair in enumerate(tree.children.tolist()):
        for node in pair:
            dies[node] = step
    expected = {
        (one, other)
        for other in range(tree.size)
        for one in range(other)
        if max(born[one], born[other]) < min(dies[one], dies[other])
        and any(frozenset((a, b)) in touch for a in sets[one] for b in sets[other] if a != b)
        and not sets[one] & sets[other]
    }
    pairs = tree.neighbours(found.edges)
    assert len(pairs) == len(expected)
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == expected
