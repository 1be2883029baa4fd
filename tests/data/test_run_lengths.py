"""Masks as run lengths: pycocotools' runs, every mask back as it was, cut and boxed without its image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as codec

from kseg.boxes import bounds
from kseg.data.instances import stack
from kseg.data.run_lengths import Masks
from kseg.errors import UsageError

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SIZES.flatmap(lambda size: arrays.arrays(bool, size))
STACKS = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays.arrays(bool, shape)
)


def pycocotools_counts(masks: Masks) -> list[bytes]:
    found = [{"size": list(masks.size), "counts": runs} for runs in masks.runs]
    return [entry["counts"] for entry in codec.frPyObjects(found, *masks.size)]


@settings(deadline=None)
@given(MASKS)
def test_runs_are_those_of_pycocotools(mask: np.ndarray) -> None:
    found = Masks.from_masks([mask], mask.shape)
    wanted = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert pycocotools_counts(found) == [wanted["counts"]]
    np.testing.assert_array_equal(found.mask(0), mask)
    assert found.areas().tolist() == [mask.sum()]
    if mask.any():
        window = bounds(mask)
        assert found.boxes().tolist() == [[window[0].start, window[1].start, window[0].stop, window[1].stop]]
        assert found.crop(0)[0] == window
        np.testing.assert_array_equal(found.crop(0)[1], mask[window])
    else:
        assert found.boxes().tolist() == [[0, 0, 0, 0]]
        assert found.crop(0)[1].shape == (0, 0)


@settings(deadline=None)
@given(STACKS)
def test_layers_hold_the_same_masks(masks: np.ndarray) -> None:
    """Overlapping and empty instances keep their places."""
    count, size = len(masks), masks.shape[1:]
    wanted = Masks.from_masks(masks, size)
    layers = stack(wanted, [1] * count, [False] * count).layers
    found = Masks.from_layers(layers, count)
    assert [runs.tolist() for runs in found.runs] == [runs.tolist() for runs in wanted.runs]


@settings(deadline=None)
@given(STACKS)
def test_depth_is_that_of_the_deepest_pixel(masks: np.ndarray) -> None:
    assert Masks.from_masks(masks, masks.shape[1:]).depth() == masks.sum(axis=0).max()
    assert Masks((), (3, 4)).depth() == 0


@settings(deadline=None)
@given(arrays.arrays(np.int32, SIZES, elements=st.integers(0, 4)), arrays.arrays(bool, (3, 5)))
def test_unions_of_superpixels(superpixels: np.ndarray, members: np.ndarray) -> None:
    found = Masks.from_regions(superpixels, members)
    wanted = Masks.from_masks([row[superpixels] for row in members], superpixels.shape)
    assert [runs.tolist() for runs in found.runs] == [runs.tolist() for runs in wanted.runs]


def test_crops_are_cut_off_at_the_image() -> None:
    crop = np.array([[1, 0, 1], [1, 1, 1]], bool)
    boxes = np.array([[-1, 2, 1, 5], [1, -2, 3, 1], [8, 8, 10, 11]])
    found = Masks.from_crops([crop] * 3, boxes, (3, 4))
    wanted = np.zeros((3, 3, 4), bool)
    wanted[0, 0, 2:] = True
    wanted[1, 1:3, 0] = True
    np.testing.assert_array_equal([found.mask(index) for index in range(3)], wanted)
    assert found[[2, 0]].areas().tolist() == [0, 2]


def test_runs_of_another_image_and_masks_of_another_kind_are_refused() -> None:
    runs = Masks.from_masks([np.ones((2, 3), bool)], (2, 3)).runs
    with pytest.raises(UsageError, match="add up to 12"):
        Masks(runs, (3, 4))
    with pytest.raises(UsageError, match=r"must be bool \(3, 4\).*bool \(2, 3\) at 0"):
        Masks.from_masks([np.ones((2, 3), bool)], (3, 4))
    with pytest.raises(UsageError, match="Received: uint8"):
        Masks.from_masks([np.ones((2, 3), np.uint8)], (2, 3))


def test_a_small_mask_is_small_whatever_its_image() -> None:
    found = Masks.from_crops([np.ones((30, 30), bool)], np.array([[500, 700, 530, 730]]), (1040, 1388))
    assert found.runs[0].nbytes <= 250
