"""Masks as pictures: right colours, ignored pixels, odd sizes, wrong input."""

from __future__ import annotations

import numpy as np
import pytest

from kseg import viz
from kseg.errors import DataError, UsageError
from kseg.spec import Spec

SPEC = Spec(classes=("sky", "road", "car"), palette=((1, 2, 3), (200, 0, 0), (0, 0, 250)), ignore_id=255)
MASK = np.array([[0, 1], [2, 255]], "uint8")
IMAGE = np.full((2, 2, 3), 100, "uint8")


def test_colorize_uses_palette_and_the_void_colour():
    picture = viz.colorize(MASK, SPEC)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[1, 2, 3], [200, 0, 0]], [[0, 0, 250], list(viz.IGNORE_COLOR)]]
    np.testing.assert_array_equal(viz.colorize(MASK[..., None].astype("int32"), SPEC), picture)


def test_colorize_with_a_negative_ignore_id():
    spec = SPEC.replace(ignore_id=-1)
    assert viz.colorize(np.array([[-1, 2]]), spec).tolist() == [[list(viz.IGNORE_COLOR), [0, 0, 250]]]


def test_overlay_blends_and_leaves_ignored_pixels():
    picture = viz.overlay(IMAGE, MASK, SPEC, alpha=0.5, outline=0)
    assert picture[0, 1].tolist() == [150, 50, 50]
    assert picture[1, 1].tolist() == [100, 100, 100]
    np.testing.assert_array_equal(viz.overlay(IMAGE, MASK, SPEC, alpha=0.0), IMAGE)
    np.testing.assert_array_equal(viz.overlay(IMAGE[..., 0], MASK, SPEC, alpha=0.0), IMAGE)


def test_overlay_lets_the_image_shine_through_a_black_background():
    spec = SPEC.replace(palette=((0, 0, 0), (200, 0, 0), (0, 0, 250)))
    picture = viz.overlay(IMAGE, MASK, spec, alpha=0.6, outline=0)
    assert picture[:, 0].tolist() == [[80, 80, 80], [40, 40, 190]]


def _luminance(color: np.ndarray) -> float:
    """Relative luminance, 0-1, as WCAG 2 defines it."""
    linear = np.where(color <= 10.3, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("shade", [0, 20, 60, 180, 240, 255])
def test_an_outline_is_seen_on_dark_and_on_bright_images(shade):
    """Contrast of at least 2 to the image beside it, for the first 40 colours of VOC's (dark) palette."""
    spec = Spec(classes=tuple(f"c{index}" for index in range(40)))
    image = np.full((9, 9, 3), shade, "uint8")
    for index in range(1, spec.num_classes):
        mask = np.zeros((9, 9), "uint8")
        mask[2:7, 2:7] = index
        picture = viz.overlay(image, mask, spec).astype(float)
        inside, outside = _luminance(picture[2, 2]), _luminance(picture[0, 0])
        contrast = (max(inside, outside) + 0.05) / (min(inside, outside) + 0.05)
        assert contrast > 2, (spec.palette[index], picture[2, 2], picture[0, 0])


def test_an_outline_lies_inside_its_region_and_grows_with_the_picture():
    mask = np.zeros((12, 12), "uint8")
    mask[3:9, 3:9] = 1
    mask[:, 11] = 255
    spec = SPEC.replace(palette=((0, 0, 0), (200, 0, 0), (0, 0, 250)))
    image = np.full((12, 12, 3), 100, "uint8")
    plain, lined = viz.overlay(image, mask, spec, outline=0), viz.overlay(image, mask, spec)
    changed = (plain != lined).any(axis=-1)
    ring = mask == 1
    ring[4:8, 4:8] = False
    np.testing.assert_array_equal(changed, ring)  # neither the black background's edge nor ignored pixels
    assert viz.outline_width((360, 480)) == 1
    assert viz.outline_width((3000, 4000)) == 4
    with pytest.raises(UsageError, match="outline"):
        viz.overlay(image, mask, spec, outline=-1)


def test_a_legend_grows_with_its_text():
    small, large = viz.legend(SPEC), viz.legend(SPEC, text_size=26)
    assert 1.8 < large.shape[0] / small.shape[0] < 2.2
    assert viz.text_size((360, 480)) == 13
    assert viz.text_size((3000, 4000)) == 67
    # The font travels with kseg: letters beyond ASCII are not all the same box.
    names = [viz.legend(SPEC.replace(classes=("sky", "road", name))).tobytes() for name in "éжßñ"]
    assert len(set(names)) == 4


def test_error_map_tells_right_wrong_and_ignored_apart():
    picture = viz.error_map(MASK, np.array([[0, 2], [2, 1]]), SPEC)
    right, wrong = picture[0, 0].tolist(), picture[0, 1].tolist()
    assert right != wrong
    assert picture[1, 0].tolist() == right
    assert picture[1, 1].tolist() == list(viz.IGNORE_COLOR)
    assert viz.error_map(MASK, np.zeros((2, 2), int), SPEC, IMAGE)[0, 0].tolist() == [60, 60, 60]


def test_legend_shows_each_colour_once_and_fits_its_width():
    picture = viz.legend(SPEC, width=300)
    assert picture.shape[1] == 300
    found = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert {*SPEC.palette, viz.IGNORE_COLOR} <= found
    only = {tuple(color) for color in viz.legend(SPEC, ids=[1]).reshape(-1, 3).tolist()}
    assert SPEC.palette[1] in only
    assert SPEC.palette[2] not in only


def test_two_hundred_classes_and_long_names():
    spec = Spec(classes=tuple(f"class {'with a long name ' * 3}{index}" for index in range(200)))
    picture = viz.legend(spec)
    assert max(picture.shape) < 6000
    assert viz.legend(spec, width=80).shape[1] == 80
    mask = np.arange(200, dtype="uint8").reshape(10, 20)
    assert viz.colorize(mask, spec).shape == (10, 20, 3)
    panels = viz.side_by_side(np.zeros((10, 20, 3), "uint8"), mask, mask, spec)
    assert panels.ndim == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53)])
def test_side_by_side_at_odd_sizes(size):
    image, mask = np.full((*size, 3), 7, "uint8"), np.ones(size, "uint8")
    full = viz.side_by_side(image, mask, 0 * mask, SPEC, errors=True)
    assert full.dtype == np.uint8
    found = {tuple(color) for color in full.reshape(-1, 3).tolist()}
    assert {(7, 7, 7), SPEC.palette[0], SPEC.palette[1]} <= found
    assert viz.side_by_side(image, None, mask, SPEC).shape[1] < full.shape[1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: viz.colorize(np.array([[0, 7]]), SPEC), DataError, r"ids \[7\]"),
        (lambda: viz.colorize(np.zeros((2, 2, 3), int), SPEC), UsageError, r"\(H, W\)"),
        (lambda: viz.colorize(np.zeros((2, 2)), SPEC), UsageError, "integer mask"),
        (lambda: viz.overlay(IMAGE, MASK, SPEC, alpha=2), UsageError, "alpha"),
        (lambda: viz.overlay(IMAGE.astype(float), MASK, SPEC), UsageError, "uint8 RGB"),
        (lambda: viz.overlay(IMAGE[:1], MASK, SPEC), UsageError, "one size"),
        (lambda: viz.error_map(MASK, MASK[:1], SPEC), UsageError, "one size"),
        (lambda: viz.side_by_side(IMAGE, None, MASK, SPEC, errors=True), UsageError, "truth"),
        (lambda: viz.legend(SPEC, ids=[9]), DataError, r"ids \[9\]"),
    ],
)
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
