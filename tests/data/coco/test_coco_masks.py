"""Polygons and run lengths: pycocotools' pixels inside, cut outside, checked before they are painted."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
from pycocotools import mask as codec

from kseg.data.coco import masks as coco_masks
from kseg.data.coco.masks import RunLengths, Segmentation, clipped, decode, problem
from kseg.errors import DataError


def painted(polygon: list[float], size: tuple[int, int]) -> np.ndarray:
    return codec.decode(codec.merge(codec.frPyObjects([polygon], *size))).astype(bool)


def star(rng: np.random.Generator, size: tuple[int, int], scale: float) -> list[float]:
    """A random polygon, mostly with crossings, around the middle of the image."""
    extent = np.array([size[1], size[0]])
    points = (rng.random((int(rng.integers(3, 12)), 2)) - 0.5) * extent * scale + extent / 2
    return points.reshape(-1).tolist()


def test_polygons_inside_are_pycocotools_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        size = (int(rng.integers(1, 80)), int(rng.integers(1, 80)))
        polygon = star(rng, size, 1.0)
        np.testing.assert_array_equal(decode([polygon], size), painted(polygon, size))


def test_polygons_that_stick_out_a_little_are_too() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
        polygon = star(rng, size, 2.0)
        np.testing.assert_array_equal(decode([polygon], size), painted(polygon, size))


@pytest.mark.parametrize("scale", [10, 100])
def test_polygons_that_stick_out_far_are_cut_where_they_leave(scale: int) -> None:
    """pycocotools follows the whole outline, corners rounded to a fifth of a pixel; here the cut's are."""
    rng = np.random.default_rng(scale)
    differing = pixels = 0
    for _ in range(200):
        size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
        polygon = star(rng, size, scale)
        mine, theirs = decode([polygon], size), painted(polygon, size)
        differing += int((mine != theirs).sum())
        pixels += mine.size
    assert differing / pixels < 1e-3


def test_clipping_keeps_what_is_inside() -> None:
    """A wedge, an everything, a frame around, and one wholly beside."""
    size = (30, 50)
    everything = [-1e7, -1e7, 1e7, -1e7, 1e7, 1e7, -1e7, 1e7]
    assert decode([everything], size).all()
    assert not decode([[1e6, 1e6, 1e6 + 5, 1e6, 1e6 + 5, 1e6 + 5]], size).any()
    half = decode([[-1e7, -1e7, 25, -1e7, 25, 1e7, -1e7, 1e7]], size)
    assert half[:, :25].all()
    assert not half[:, 25:].any()
    around = [
        -9e3,
        -9e3,
        9e3,
        -9e3,
        9e3,
        9e3,
        -9e3,
        9e3,
        -9e3,
        -9e3,
        -5e3,
        -5e3,
        -5e3,
        5e3,
        5e3,
        5e3,
        5e3,
        -5e3,
    ]
    around += [-5e3, -5e3]
    assert not decode([around], size).any()


def test_cut_polygons_stay_within_the_margin() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        points = clipped(star(rng, (30, 50), 1000), (30, 50))
        if len(points):
            assert points.min() >= -64
            assert points[:, 0].max() <= 50 + 64
            assert points[:, 1].max() <= 30 + 64


def test_a_far_corner_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for corner in (1e4, 1e6, coco_masks.MAX_COORDINATE):
        assert decode([[0, 0, corner, 0, corner, corner, 0, corner]], (64, 64)).all()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
        1 if sys.platform == "darwin" else 1024
    )
    assert grown < 50e6


def test_empty_runs_between_others_mean_nothing() -> None:
    size = (3, 4)
    found = coco_masks.masks([RunLengths(size=size, counts=[2, 0, 1, 4, 0, 1, 4, 0, 0])], size)
    assert found.runs[0].tolist() == [3, 5, 4]
    assert found.boxes().tolist() == [[0, 1, 3, 3]]


def test_run_lengths_are_pycocotools_pixels() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
        mask = (rng.random(size) < rng.random()).astype(np.uint8)
        text = codec.encode(np.asfortranarray(mask))["counts"].decode()
        np.testing.assert_array_equal(decode(RunLengths(size=size, counts=text), size), mask)
        flat = mask.T.reshape(-1)
        places = np.flatnonzero(np.diff(flat, prepend=np.uint8(0)))
        runs = np.diff(np.concatenate([[0], places, [flat.size]])).tolist()
        np.testing.assert_array_equal(decode(RunLengths(size=size, counts=runs), size), mask)


@pytest.mark.parametrize(
    ("counts", "size", "said"),
    [
        ([5], (3, 3), "add up to the 9 pixels"),
        ([2**53, 9], (3, 3), "add up"),
        ([0] * 100, (3, 3), "add up"),
        ([], (3, 3), "add up"),
        ("", (3, 3), "no text"),
        ("\x00\x01", (3, 3), "no text"),
        ("zzz", (3, 3), "no text"),
        ("o", (3, 3), "no text"),
        ("oooooooooooo0", (3, 3), "beyond 32 bits"),
        ("ü", (3, 3), "no text"),
        ("0" * 10_000, (3, 3), "add up"),
        ([9], (3, 4), "RLE size"),
    ],
)
def test_run_lengths_that_could_harm_are_refused(counts, size, said) -> None:
    with pytest.raises(DataError, match=said):
        decode(RunLengths(size=(3, 3), counts=counts), size)


def test_garbage_never_reaches_the_decoder() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(2000):
        text = "".join(chr(code) for code in rng.integers(40, 120, int(rng.integers(0, 12))))
        try:
            assert decode(RunLengths(size=(4, 5), counts=text), (4, 5)).shape == (4, 5)
        except DataError:
            refused += 1
    assert refused > 1500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("17", "expected an object or a list"),
        ("[5]", "expected a list, found a whole number"),
        ('[["a"]]', "expected a number, found text"),
        ("[[1, 2, 1e9]]", "a number <= 10000000"),
        ("[[1, 2, 1e999]]", "out of range"),
        ("[[1, null]]", "found null"),
        ('{"size": [1], "counts": []}', "length 2"),
        ('{"size": [-1, 2], "counts": []}', ">= 0"),
        ('{"counts": []}', "missing required field `size`"),
        ('{"size": [1, 2], "counts": {}}', "found an object"),
    ],
)
def test_types_of_segmentations(text: str, said: str) -> None:
    from kseg import records

    found, wrong = next(iter(records.each([text.encode()], Segmentation)))
    assert found is None
    assert said in wrong


def test_outlines_are_bounded() -> None:
    size = (1000, 1000)
    zigzag = [value for index in range(5000) for value in (index % 2 * 999, index / 5)]
    assert "outline of more than 1,000,000 pixels" in problem([zigzag], size)
    assert problem([zigzag[:600]], size) == ""
    assert "3 numbers" in problem([[1, 2, 3]], size)
