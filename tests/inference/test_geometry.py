"""kseg.inference.geometry: integer padding, tiles that cover, weights that add up, exact bands."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg.inference import geometry
from kseg.semantic.inference import tiles


def test_padding_is_bottom_and_right_only() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = geometry.pad_to(image, (4, 5), (7, 8, 9))
    assert np.array_equal(padded[:2, :3], image)
    assert (padded[2:] == (7, 8, 9)).all()
    assert (padded[:, 3:] == (7, 8, 9)).all()
    assert geometry.pad_to(image, (2, 3), (0, 0, 0)) is image
    with pytest.raises(ValueError, match="cannot pad"):
        geometry.pad_to(image, (1, 5), (0, 0, 0))


sides = st.integers(1, 700)


@settings(deadline=None)
@given(length=sides, window=sides, overlap=st.floats(0, 0.95))
def test_tiles_cover_the_axis_and_overlap(length: int, window: int, overlap: float) -> None:
    starts = geometry.tile_starts(length, window, overlap)
    window = min(window, length)
    assert starts[0] == 0
    assert starts[-1] + window == length
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= max(1, window * (1 - overlap) + 1e-6)).all()


@settings(deadline=None)
@given(length=sides, window=sides, overlap=st.floats(0, 0.9))
def test_weights_add_up_to_one_everywhere(length: int, window: int, overlap: float) -> None:
    starts = geometry.tile_starts(length, window, overlap)
    window = min(window, length)
    weights = tiles.blend_weights(length, window, starts)
    total = np.zeros(length)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + window] += row
    assert weights.min() > 0
    np.testing.assert_allclose(total, 1, atol=1e-5)
    if len(starts) == 1:
        assert (weights == 1).all()


def test_a_tile_counts_most_at_its_centre() -> None:
    first, second = tiles.blend_weights(150, 100, [0, 50])
    assert first[70] > 0.5 > first[80]
    np.testing.assert_allclose(first, second[::-1], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4, 5, 64, 65, 128, 129, 150, 300])
def test_any_number_of_channels_is_resized(channels: int) -> None:
    values = np.random.default_rng(channels).normal(size=(6, 7, channels)).astype("float32")
    resized = geometry.resize_channels(values, (13, 11))
    for channel in (0, channels // 2, channels - 1):
        np.testing.assert_allclose(
            resized[..., channel], cv2.resize(values[..., channel], (11, 13)), atol=1e-5
        )


@settings(deadline=None)
@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    band=st.integers(1, 60),
)
def test_bands_are_rows_of_the_whole_resize(
    source: tuple[int, int], target: tuple[int, int], band: int
) -> None:
    values = np.random.default_rng(0).normal(size=(*source, 3)).astype("float32")
    whole = geometry.resize_channels(values, target)
    bands = [
        geometry.resize_rows(values, target, first, min(first + band, target[0]))
        for first in range(0, target[0], band)
    ]
    np.testing.assert_allclose(np.concatenate(bands), whole, atol=1e-5)


def test_resizing_has_pixel_centres_at_one_half() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32)[:, None, None], (1, 1, 1))
    doubled = geometry.resize_channels(ramp, (16, 1))[:, 0, 0]
    np.testing.assert_allclose(doubled, np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), atol=1e-6)
