"""Superpixels: cuts, borders, and one distribution per superpixel."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from kseg.errors import MissingExtraError, UsageError
from kseg.inference.distributions import probabilities
from kseg.segments.borders import borders
from kseg.segments.labels import region_means
from kseg.semantic.refine.superpixels import SuperpixelPooling, Superpixels


def quarters(size: int = 24) -> np.ndarray:
    """Four squares of different colours."""
    image = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    image[:half, half:] = (255, 0, 0)
    image[half:, :half] = (0, 255, 0)
    image[half:, half:] = (0, 0, 255)
    return image


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("method", ["felzenszwalb", "slic"])
def test_superpixels_follow_edges_and_are_numbered_without_gaps(method: str) -> None:
    image = quarters()
    labels = Superpixels(method=method, sigma=0, n_segments=16)(image)
    assert labels.shape == image.shape[:2]
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert labels.max() >= 3
    for label in range(labels.max() + 1):
        assert len(np.unique(image[labels == label], axis=0)) == 1


@pytest.mark.parametrize("method", ["felzenszwalb", "slic"])
@pytest.mark.parametrize("pool", ["mean", "majority"])
def test_scores_are_constant_in_each_superpixel(method: str, pool: str) -> None:
    refiner = SuperpixelPooling(pool=pool, method=method, n_segments=20, min_size=5)
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    scores = refiner(image, noise((20, 30, 5)))
    labels = refiner.superpixels(image)
    assert labels.max() > 0
    assert scores.dtype == np.float32
    for label in range(labels.max() + 1):
        assert len(np.unique(scores[labels == label], axis=0)) == 1


def test_mean_is_the_average_distribution_and_majority_the_vote() -> None:
    image = quarters()
    logits = noise((24, 24, 3), seed=2)
    # A corner where few pixels are very sure of class 2 and most are a little for class 0.
    logits[:12, :12] = np.log([0.5, 0.3, 0.2], dtype=np.float32)
    logits[:5, :12] = (0, 0, 30)
    mean = SuperpixelPooling(sigma=0)(image, logits)
    majority = SuperpixelPooling(pool="majority", sigma=0)(image, logits)
    expected = probabilities(logits[:12, :12]).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(np.exp(mean[3, 3]), expected, rtol=1e-5)
    assert mean[3, 3].argmax() == 2
    np.testing.assert_allclose(np.exp(majority[3, 3]), [7 / 12, 0, 5 / 12], atol=1e-6)


@pytest.mark.parametrize("method", ["felzenszwalb", "slic"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 16)])
def test_images_without_structure_have_a_defined_result(method: str, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    logits = noise((*shape, 4))
    refiner = SuperpixelPooling(method=method, n_segments=1)
    labels = refiner.superpixels(image)
    assert labels.max() == 0
    expected = probabilities(logits).reshape(-1, 4).mean(axis=0)
    scores = refiner(image, logits)
    np.testing.assert_allclose(np.exp(scores), np.broadcast_to(expected, logits.shape), rtol=1e-4)


def test_scores_stay_finite_where_a_class_is_impossible() -> None:
    logits = np.full((8, 8, 2), -np.inf, np.float32)
    logits[..., 0] = 0
    scores = SuperpixelPooling()(np.zeros((8, 8, 3), np.uint8), logits)
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=-1) == 0).all()


def test_borders_of_a_drawn_map() -> None:
    labels = np.array([[0, 0, 1], [2, 2, 1]])
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 2] = (51, 0, 0)
    found = borders(labels, image)
    np.testing.assert_array_equal(found.edges, [[0, 1], [0, 2], [1, 2]])
    np.testing.assert_array_equal(found.length, [1, 2, 1])
    np.testing.assert_allclose(found.means(found.contrast), [0.2, 0, 0])
    np.testing.assert_allclose(found.sums(np.ones(4)), [1, 2, 1])


def test_region_means_equal_a_loop() -> None:
    labels = np.random.default_rng(3).integers(0, 6, (9, 11))
    values = noise((9, 11, 4))
    means = region_means(values, labels)
    for label in range(6):
        np.testing.assert_allclose(means[label], values[labels == label].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "slick"}, "Did you mean 'slic'"),
        ({"scale": -1.0}, "`scale` must be a number >= 0"),
        ({"sigma": float("nan")}, "`sigma`"),
        ({"min_size": 0}, "`min_size` must be a whole number >= 1"),
        ({"n_segments": 2.5}, "`n_segments` must be a whole number"),
        ({"compactness": 0}, "`compactness`"),
        ({"pool": "median"}, "`pool` must be one of mean, majority"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SuperpixelPooling(**arguments)  # type: ignore[arg-type]


def test_image_and_logits_must_be_of_one_size() -> None:
    with pytest.raises(UsageError, match=r"image \(4, 4, 3\), logits \(4, 5, 2\)"):
        SuperpixelPooling()(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 2), np.float32))


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"kseg\[refine\]"):
        Superpixels()(quarters())


def test_a_camvid_sized_image_takes_well_under_a_second() -> None:
    image = np.random.default_rng(4).integers(0, 256, (360, 480, 3), np.uint8)
    image = np.repeat(np.repeat(image[::12, ::12], 12, axis=0), 12, axis=1)
    logits = noise((360, 480, 11))
    SuperpixelPooling()(image[:8, :8], logits[:8, :8])
    start = time.process_time()
    SuperpixelPooling()(image, logits)
    assert time.process_time() - start < 2
