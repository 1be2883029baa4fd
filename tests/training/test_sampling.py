"""Sampled training: which pixels are drawn, how often, and that a patch shows what surrounds its pixel."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kseg
from kseg.data import Sample, from_arrays, preprocess
from kseg.errors import DataError, UsageError
from kseg.models.forms import Head
from kseg.training.sampling import CentreSampler, ForHeads, PatchBatches, SparseLabels, balancing_weights

SPEC = kseg.Spec(classes=("common", "rare", "absent"))


def samples(count: int = 4, size: tuple[int, int] = (20, 30)) -> list[Sample]:
    """Images that count their pixels; 5 of 600 labels are rare, the first row is void."""
    found = []
    for index in range(count):
        numbers = np.arange(size[0] * size[1]).reshape(size)
        image = np.stack([numbers % 256, numbers // 256, np.full(size, index)], -1).astype(np.uint8)
        mask = np.zeros(size, np.uint8)
        mask[10, 3:8] = 1
        mask[0] = SPEC.ignore_id
        found.append(Sample(f"s{index}", image, mask, None))
    return found


def sampler(balanced: bool) -> CentreSampler:
    return CentreSampler(samples(), SPEC, balanced)


def test_balanced_draws_each_present_class_equally_often_and_natural_at_its_share() -> None:
    rng = np.random.default_rng(0)
    classes = sampler(True).draw(3000, rng)[:, 3]
    assert abs(np.bincount(classes, minlength=3) / 3000 - [0.5, 0.5, 0]).max() <= 0.02
    classes = sampler(False).draw(3000, rng)[:, 3]
    assert np.bincount(classes, minlength=3)[1] / 3000 == pytest.approx(5 / 570, abs=0.006)


@pytest.mark.parametrize("balanced", [True, False])
def test_draws_are_labelled_pixels_of_every_image_with_their_label(balanced: bool) -> None:
    data = samples()
    centres = sampler(balanced).draw(400, np.random.default_rng(1))
    for image, row, column, label in centres:
        assert data[image].mask[row, column] == label != SPEC.ignore_id
    assert set(centres[:, 0]) == {0, 1, 2, 3}


def test_one_labelled_class_is_refused() -> None:
    single = [Sample("s", s.image, np.zeros_like(s.mask), None) for s in samples(1)]
    with pytest.raises(DataError, match=r"at least two classes.*'common'"):
        CentreSampler(single, SPEC, True)


@pytest.mark.parametrize(("labels", "found"), [((0, 255), "'common'"), ((255,), "none")])
@pytest.mark.parametrize("balanced", [True, False])
def test_pixels_of_fewer_than_two_classes_are_refused(
    balanced: bool, labels: tuple[int, ...], found: str
) -> None:
    masks = [np.resize(np.array(labels, np.uint8), s.mask.shape) for s in samples()]
    batches = from_arrays([s.image for s in samples()], masks, SPEC, batch_size=2)
    with pytest.raises(DataError, match=f"at least two classes.*images: {found}"):
        SparseLabels(batches, 10, balanced)


@pytest.mark.parametrize("size", [5, 6])
def test_the_middle_of_a_patch_is_its_pixel_and_the_border_is_mirrored(size: int) -> None:
    centre = (size - 1) // 2
    batches = PatchBatches(sampler(True), SPEC, size=size, centre=centre, batch_size=64, per_epoch=64)
    patches, labels = batches[0]
    assert patches.shape == (64, size, size, 3)
    assert labels.shape == (64, 1, 1)
    images = [preprocess(sample.image, SPEC.normalization) for sample in samples()]
    rng = np.random.default_rng((0, 0, 0))
    drawn = batches.sampler.draw(64, rng)
    flips = rng.random(64) < 0.5
    assert 0 < flips.sum() < 64
    for patch, (image, row, column, _), flip in zip(patches, drawn, flips, strict=True):
        np.testing.assert_array_equal(patch[centre, centre], images[image][row, column])
        whole = np.pad(images[image], ((size, size), (size, size), (0, 0)), mode="reflect")
        before = size - 1 - centre if flip else centre
        top, left = row + size - centre, column + size - before
        expected = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(patch, expected[:, ::-1] if flip else expected)


def test_a_batch_depends_on_seed_epoch_and_index_only() -> None:
    def make(seed: int = 0) -> PatchBatches:
        return PatchBatches(sampler(True), SPEC, size=5, centre=2, batch_size=8, per_epoch=20, seed=seed)

    first = make()
    assert len(first) == 2
    expected = first[1][0]
    first.set_epoch(3)
    again = make()
    np.testing.assert_array_equal(again[1][0], expected)
    assert not np.array_equal(first[1][0], expected)
    assert not np.array_equal(make(seed=1)[1][0], expected)


@pytest.mark.parametrize(("balanced", "rare"), [(True, 20), (False, 2)])
def test_sparse_labels_keep_as_many_pixels_as_asked(balanced: bool, rare: int) -> None:
    data = samples()
    batches = from_arrays([s.image for s in data], [s.mask for s in data], SPEC, batch_size=4)
    images, kept = SparseLabels(batches, 20, balanced)[0]
    whole = batches[0]
    np.testing.assert_array_equal(images, whole[0])
    labelled = kept != SPEC.ignore_id
    np.testing.assert_array_equal(kept[labelled], whole[1][labelled])
    # 80 pixels; balanced, the 20 rare ones there are, and 40 common ones.
    assert labelled.sum() == (60 if balanced else 80)
    assert (kept == 1).sum() <= rare if not balanced else (kept == 1).sum() == rare


def test_heads_get_labels_of_their_own() -> None:
    data = samples()
    batches = from_arrays([s.image for s in data], [s.mask for s in data], SPEC, batch_size=4)
    heads = [Head("instance1", None), Head("geometry", None, labels=(1, 0, 0))]
    images, labels = ForHeads(batches, heads)[0]
    masks = batches[0][1]
    assert list(labels) == ["logits", "instance1", "geometry"]
    np.testing.assert_array_equal(labels["instance1"], masks)
    np.testing.assert_array_equal(labels["geometry"], np.where(masks == 255, 255, 1 - masks))
    assert len(images) == 4
    with pytest.raises(UsageError, match=r"'geometry' has 2 labels.*3 classes"):
        ForHeads(batches, [Head("geometry", None, labels=(1, 0))])


def rare_in_few_images(images: int = 20) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two classes in every image and a third one in the first image only; grey values of broad overlap."""
    rng = np.random.default_rng(0)
    masks = [np.zeros((20, 30), np.uint8) for _ in range(images)]
    for mask in masks:
        mask[:3] = 1
    masks[0][-6:] = 2
    grey = [rng.normal(128 + 25 * mask, 25)[..., None] for mask in masks]
    return [np.clip(values, 0, 255).repeat(3, -1).astype(np.uint8) for values in grey], masks


def test_weights_make_up_for_batches_that_lack_a_class() -> None:
    images, masks = rare_in_few_images()
    batches = from_arrays(images, masks, SPEC, batch_size=2, shuffle=True)
    sparse = SparseLabels(batches, 12, balanced=True)
    drawn = np.zeros(3)
    for epoch in range(20):
        sparse.set_epoch(epoch)
        for index in range(len(sparse)):
            drawn += np.bincount(sparse[index][1].ravel(), minlength=256)[:3]
    weights = balancing_weights(np.array([1.0, 1.0, 1 / 20]), 2)
    assert drawn[2] < 0.15 * drawn[0]
    np.testing.assert_allclose(drawn * weights / (drawn * weights).sum(), 1 / 3, atol=0.03)
    assert (drawn * weights).sum() / drawn.sum() == pytest.approx(1, abs=0.05)
    assert balancing_weights(np.array([1.0, 0.5, 0.0]), 4)[2] == 0
    # Two batches: one class alone, or both; the second has a quarter of the draws, however rare that is.
    np.testing.assert_allclose(balancing_weights(np.array([1.0, 0.5]), 1), [2 / 3, 2])
    assert balancing_weights(np.array([1.0, 1e-7]), 1)[1] == pytest.approx(1e7)


@pytest.mark.parametrize("unit", ["pixels", "patches"])
def test_balanced_sampling_raises_class_accuracy_and_lowers_pixel_accuracy(unit: str) -> None:
    """Both samplings of Farabet's table: a softmax on one grey value, where the classes overlap."""
    images, masks = rare_in_few_images()
    data = [
        Sample(str(i), image, mask, None) for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    accuracy: dict[bool, tuple[float, float]] = {}
    for balanced in (False, True):
        weights = None
        if unit == "patches":
            sampler = CentreSampler(data, SPEC, balanced)
            batches = PatchBatches(sampler, SPEC, size=1, centre=0, batch_size=50, per_epoch=1000)
        else:
            whole = from_arrays(images, masks, SPEC, batch_size=2, shuffle=True)
            batches = SparseLabels(whole, 50, balanced)
            weights = balancing_weights(np.array([1.0, 1.0, 1 / 20]), 2) if balanced else None
        keras.utils.set_random_seed(0)
        image = keras.Input((None, None, 3))
        model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
        loss = kseg.losses.PixelCrossEntropy(ignore_id=255, class_weights=weights)
        model.compile(keras.optimizers.Adam(0.1), loss)
        model.fit(batches, epochs=15, verbose=0)
        predicted = model.predict(preprocess(np.stack(images), SPEC.normalization), verbose=0).argmax(-1)
        truth = np.stack(masks)
        classes = [(predicted[truth == label] == label).mean() for label in range(3)]
        accuracy[balanced] = float(np.mean(classes)), float((predicted == truth).mean())
    assert accuracy[True][0] > accuracy[False][0] + 0.05
    assert accuracy[True][1] < accuracy[False][1] - 0.05
