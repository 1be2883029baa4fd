"""Joint transforms: ids never invented, image and mask never apart, the same draws give the same sample."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg.data.transforms.augment import Augment
from kseg.data.transforms.normalize import fill_color, preprocess
from kseg.data.transforms.resize import Resize, fitted_size, resize_image, resize_mask
from kseg.errors import UsageError
from kseg.spec import Normalization

TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)
STILL = {"flip": 0.0, "scale": (1.0, 1.0), "rotation": 0.0, "color": 0.0}
sides = st.integers(1, 40)


@st.composite
def samples(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(sides), draw(sides)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    mask = rng.integers(3, 9, (height, width)).astype(draw(st.sampled_from(TYPES)))
    layers = draw(st.none() | st.integers(0, 3))
    instances = None if layers is None else rng.integers(5, 90, (layers, height, width)).astype(np.int32)
    return image, mask, instances


augmentations = st.builds(
    Augment,
    crop=st.none() | st.tuples(sides, sides),
    flip=st.floats(0, 1),
    flip_vertical=st.floats(0, 1),
    scale=st.tuples(st.floats(0.2, 1), st.floats(1, 4)),
    rotation=st.floats(0, 180),
    color=st.floats(0, 1),
)


def colored(mask: np.ndarray) -> np.ndarray:
    """Draw a mask into an image, so that image and mask can be compared after a transform."""
    return np.repeat(mask.astype(np.uint8)[..., None], 3, axis=2)


@settings(deadline=None)
@given(samples(), augmentations, st.integers(0, 2**32 - 1))
def test_ids_are_never_invented_and_types_are_kept(sample, augment, seed):
    image, mask, instances = sample
    new_image, new_mask, new_instances = augment(image, mask, instances, rng=np.random.default_rng(seed))
    size = augment.crop or mask.shape
    assert (new_image.dtype, new_image.shape) == (np.uint8, (*size, 3))
    assert (new_mask.dtype, new_mask.shape) == (mask.dtype, tuple(size))
    assert set(np.unique(new_mask)) <= set(np.unique(mask)) | {255}
    if instances is None:
        assert new_instances is None
    else:
        assert (new_instances.dtype, new_instances.shape) == (np.int32, (len(instances), *size))
        assert set(np.unique(new_instances)) <= set(np.unique(instances)) | {0}


@settings(deadline=None)
@given(samples(), augmentations, st.integers(0, 2**32 - 1))
def test_same_generator_state_same_sample_and_inputs_untouched(sample, augment, seed):
    copies = [None if array is None else array.copy() for array in sample]
    first, second = (augment(*sample, rng=np.random.default_rng(seed)) for _ in range(2))
    for one, other, before, after in zip(first, second, copies, sample, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(before, after)


@settings(deadline=None)
@given(samples(), st.integers(0, 2**32 - 1))
def test_void_instances_and_fill_stand_at_the_same_pixels(sample, seed):
    _, mask, _ = sample
    augment = Augment(crop=(31, 17), scale=(0.3, 2), rotation=90, color=0, fill=(0, 0, 0))
    ones = np.ones_like(mask)
    image, mask, instances = augment(
        np.full((*mask.shape, 3), 255, np.uint8), mask, ones[None], rng=np.random.default_rng(seed)
    )
    np.testing.assert_array_equal(mask == 255, instances[0] == 0)
    # The border pixel is blended by position: nearest keeps it from half a pixel on, as bilinear does.
    np.testing.assert_array_equal(image[mask == 255].max(initial=0) <= 128, True)


@settings(deadline=None)
@given(samples(), st.integers(0, 9))
def test_nothing_asked_nothing_changed(sample, seed):
    for result, given_ in zip(
        Augment(**STILL)(*sample, rng=np.random.default_rng(seed)), sample, strict=True
    ):
        np.testing.assert_array_equal(result, given_)


@pytest.mark.parametrize("kinds", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("shape", [(7, 10), (8, 9), (1, 1)])
def test_flips_are_exact(kinds, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    mask = rng.integers(0, 200, shape).astype(np.int32)
    augment = Augment(**{**STILL, "flip": kinds[0]}, flip_vertical=kinds[1])
    new_image, new_mask, new_instances = augment(image, mask, mask[None], rng=rng)
    step = (-1 if kinds[1] else 1, -1 if kinds[0] else 1)
    np.testing.assert_array_equal(new_image, image[:: step[0], :: step[1]])
    np.testing.assert_array_equal(new_mask, mask[:: step[0], :: step[1]])
    np.testing.assert_array_equal(new_instances[0], new_mask)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_integer_enlargement_repeats_mask_pixels(factor):
    """Nearest pixel CENTRES: each pixel becomes factor x factor equal ones, none shifted by a half."""
    mask = np.arange(63, dtype=np.uint8).reshape(7, 9)
    augment = Augment(crop=(7 * factor, 9 * factor), flip=0, scale=(factor, factor), color=0)
    _, result, _ = augment(colored(mask), mask, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(result, np.repeat(np.repeat(mask, factor, 0), factor, 1))


def test_odd_reduction_takes_the_centre_pixel():
    mask = np.arange(81, dtype=np.uint8).reshape(9, 9)
    augment = Augment(crop=(3, 3), flip=0, scale=(1 / 3, 1 / 3), color=0)
    image, result, _ = augment(colored(mask), mask, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(result, mask[1::3, 1::3])
    np.testing.assert_array_equal(image[..., 0], result)


@pytest.mark.parametrize("turns", [1, 3])
def test_quarter_turns_are_exact(turns):
    class Fixed:
        """A generator whose angle is the largest to one side, everything else in the middle."""

        def random(self, count):
            draws = np.full(count, 0.5)
            draws[1] = 1.0 if turns == 3 else 0.0  # positive is clockwise
            return draws

    mask = np.arange(49, dtype=np.uint8).reshape(7, 7)
    augment = Augment(**{**STILL, "rotation": 90})
    image, result, _ = augment(colored(mask), mask, rng=Fixed())
    np.testing.assert_array_equal(result, np.rot90(mask, turns))
    np.testing.assert_array_equal(image[..., 0], result)


@pytest.mark.parametrize("seed", range(20))
def test_image_and_mask_stay_aligned_within_half_a_pixel(seed):
    """A ramp drawn into the image tells where each mask pixel came from."""
    rows, columns = np.mgrid[:60, :80]
    image = np.dstack([columns * 3, rows * 4, rows * 0]).astype(np.uint8)
    place = (rows * 80 + columns).astype(np.int32)
    augment = Augment(crop=(50, 64), scale=(0.7, 3), rotation=30, color=0, ignore_id=-1, flip_vertical=0.5)
    image, place, instances = augment(image, place, place[None] + 1, rng=np.random.default_rng(seed))
    inside = (place >= 0) & (place % 80 > 0) & (place % 80 < 79) & (place // 80 > 0) & (place // 80 < 59)
    assert inside.sum() > 400
    error_x = image[..., 0][inside] / 3 - place[inside] % 80
    error_y = image[..., 1][inside] / 4 - place[inside] // 80
    for error in (error_x, error_y):
        assert np.abs(error).max() <= 0.75  # half a pixel of nearest, a quarter of 8-bit rounding
        assert abs(error.mean()) < 0.05  # a convention off by a half pixel would show here
    np.testing.assert_array_equal(instances[0], place + 1)


def test_plain_crop_never_blurs_and_reaches_every_place():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    mask = np.arange(42, dtype=np.uint8).reshape(6, 7)
    augment = Augment(**STILL, crop=(4, 5))
    starts = set()
    rng = np.random.default_rng(1)
    for _ in range(200):
        part, ids, _ = augment(image, mask, rng=rng)
        top, left = divmod(int(ids[0, 0]), 7)
        np.testing.assert_array_equal(part, image[top : top + 4, left : left + 5])
        np.testing.assert_array_equal(ids, mask[top : top + 4, left : left + 5])
        starts.add((top, left))
    assert starts == {(top, left) for top in range(3) for left in range(3)}


def test_crop_larger_than_the_image_fills_with_void():
    mask = np.zeros((3, 2), np.uint8)
    augment = Augment(**STILL, crop=(10, 11), ignore_id=77, fill=(9, 8, 7))
    image, ids, instances = augment(
        np.zeros((3, 2, 3), np.uint8), mask, np.ones((1, 3, 2), np.int32), rng=np.random.default_rng(0)
    )
    assert (ids == 0).sum() == (instances == 1).sum() == 6
    np.testing.assert_array_equal(np.unique(image[ids == 77].reshape(-1, 3), axis=0), [[9, 8, 7]])
    assert (image[ids == 0] == 0).all()


def test_sources_wider_than_opencv_warps_are_cropped():
    mask = np.zeros((2, 40_000), np.uint8)
    mask[:, ::2] = 1
    image, ids, _ = Augment(**STILL, crop=(2, 64))(colored(mask), mask, rng=np.random.default_rng(5))
    assert ids.shape == (2, 64)
    np.testing.assert_array_equal(image[..., 0], ids)


def test_color_changes_the_image_only_and_keeps_padding_plain():
    grey = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    augment = Augment(crop=(16, 16), flip=0, scale=(1, 1), color=0.5, fill=(124, 116, 104))
    results = [augment(grey, mask, rng=np.random.default_rng(seed)) for seed in range(30)]
    inside = np.array([image[ids == 0][0] for image, ids, _ in results])
    assert len(np.unique(inside, axis=0)) > 25
    assert inside.std(axis=0).min() > 10
    assert all((image[ids == 255] == (124, 116, 104)).all() for image, ids, _ in results)


def test_color_strength_sets_the_spread_around_the_original():
    pixel, mask = np.full((1, 1, 3), 110, np.uint8), np.zeros((1, 1), np.uint8)

    def results(strength):
        augment = Augment(**{**STILL, "color": strength})
        return np.array(
            [augment(pixel, mask, rng=np.random.default_rng(seed))[0][0, 0] for seed in range(300)], float
        )

    weak, strong = results(0.1), results(0.4)
    assert np.abs(weak.mean(axis=0) - 110).max() < 3
    assert np.abs(strong.mean(axis=0) - 110).max() < 8
    assert 3 * weak.std() < strong.std() < 5 * weak.std()


def test_draws_are_counted_alike_whatever_is_asked():
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    states = []
    for augment in (Augment(**STILL), Augment(crop=(2, 2), rotation=20)):
        rng = np.random.default_rng(3)
        augment(image, mask, rng=rng)
        states.append(rng.random())
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": (0, 4)}, "crop"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"flip": 1.5}, "flip"),
        ({"color": -0.1}, "color"),
        ({"rotation": 400.0}, "rotation"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=rf"`{message}` must .*Received"):
        Augment(**arguments)


def test_wrong_arrays_are_named():
    rng = np.random.default_rng(0)
    image, mask = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(UsageError, match=r"`image` must be uint8 .*float64"):
        Augment()(image.astype(float), mask, rng=rng)
    with pytest.raises(UsageError, match=r"`mask` must .*\(5, 4\)"):
        Augment()(image, mask.T, rng=rng)
    with pytest.raises(UsageError, match=r"`instances` must"):
        Augment()(image, mask, mask, rng=rng)
    with pytest.raises(UsageError, match=r"ignore id -1 does not fit .*uint8"):
        Augment(ignore_id=-1)(image, mask, rng=rng)


@settings(deadline=None)
@given(samples(), st.sampled_from(["none", "stretch", "fit"]), sides, sides)
def test_resize_rules(sample, rule, height, width):
    image, mask, instances = sample
    new_image, new_mask, new_instances = Resize((height, width), rule)(image, mask, instances)
    assert new_image.shape == (height, width, 3)
    assert (new_mask.shape, new_mask.dtype) == ((height, width), mask.dtype)
    assert set(np.unique(new_mask)) <= set(np.unique(mask)) | {255}
    if instances is not None:
        assert new_instances.shape == (len(instances), height, width)
        assert set(np.unique(new_instances)) <= set(np.unique(instances)) | {0}
    covered = {"stretch": (height, width), "fit": fitted_size(mask.shape, (height, width))}.get(
        rule, (min(height, mask.shape[0]), min(width, mask.shape[1]))
    )
    void = new_mask == 255
    assert not void[: covered[0], : covered[1]].any()
    assert void[covered[0] :].all()
    assert void[:, covered[1] :].all()
    assert (new_image[void] == (124, 116, 104)).all()


def test_fit_keeps_the_aspect_ratio():
    assert fitted_size((360, 480), (240, 240)) == (180, 240)
    assert fitted_size((1000, 1), (10, 10)) == (10, 1)
    assert fitted_size((50, 100), (200, 200)) == (100, 200)


def test_none_keeps_the_centre_of_a_larger_image():
    mask = np.arange(25, dtype=np.uint8).reshape(5, 5)
    image, ids, _ = Resize((3, 3))(colored(mask), mask)
    np.testing.assert_array_equal(ids, mask[1:4, 1:4])
    np.testing.assert_array_equal(image[..., 0], ids)


@pytest.mark.parametrize("factor", [2, 3])
def test_resized_image_and_mask_agree(factor):
    mask = (np.arange(6 * 8).reshape(6, 8) % 7 * 30).astype(np.uint8)
    large = resize_mask(mask, (6 * factor, 8 * factor))
    np.testing.assert_array_equal(large, np.repeat(np.repeat(mask, factor, 0), factor, 1))
    np.testing.assert_array_equal(resize_mask(large, (6, 8)), mask)
    np.testing.assert_array_equal(resize_image(colored(large), (6, 8)), colored(mask))


def test_reduced_mask_takes_centre_pixels():
    mask = np.arange(81, dtype=np.int32).reshape(9, 9)
    np.testing.assert_array_equal(resize_mask(mask, (3, 3)), mask[1::3, 1::3])
    np.testing.assert_array_equal(resize_mask(mask[None], (3, 9))[0], mask[1::3])


def test_preprocess_is_the_formula():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    caffe = Normalization(order="bgr", mean=(104.0, 116.7, 122.7), std=(1.0, 2.0, 3.0))
    result = preprocess(image, caffe)
    expected = (image[..., ::-1].astype(np.float64) - caffe.mean) / caffe.std
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(preprocess(np.stack([image, image]), caffe)[1], result)
    default = preprocess(np.array([[[0, 255, 128]]], np.uint8), Normalization())
    np.testing.assert_allclose(default, [[[-1, 1, 0.5 / 127.5]]], rtol=1e-6)
    assert fill_color(caffe) == (123, 117, 104)
    with pytest.raises(UsageError, match=r"must be uint8 RGB.*float32"):
        preprocess(result, caffe)


def test_transforms_import_neither_tensorflow_nor_keras():
    code = (
        "import sys, kseg.data.transforms.augment, kseg.data.transforms.resize, kseg.data.pictures.images\n"
        "assert not {'tensorflow', 'keras', 'torch', 'jax'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 5), (32, 48), (13, 31)])
def test_masks_are_resized_as_torchvision_opencv_and_pillow_do_it(size: tuple[int, int]) -> None:
    name = f"{size[0]}x{size[1]}"
    with np.load(Path(__file__).resolve().parents[2] / "references" / "torch.npz") as recorded:
        ids = recorded["masks/ids"]
        exact, pillow = (recorded[f"masks/{library}_{name}"] for library in ("torchvision", "pillow"))
    found = resize_mask(ids, size)
    np.testing.assert_array_equal(found, exact)
    opencv = cv2.resize(ids.astype("float32"), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for other in (pillow, opencv):
        if size in ((8, 12), (3, 5), (32, 48)):
            np.testing.assert_array_equal(found, other)
        # At 7 of 16 rows and 9 of 24 columns some centres lie between two pixels, which rounding decides
        # there.
        assert (found != other).mean() < 0.25
        assert (np.abs(found % 24 - other % 24) <= 1).all()
        assert (np.abs(found // 24 - other // 24) <= 1).all()
