"""Sampled training: which pixels are drawn, how often, and that a patch shows what surrounds its pixel."""

from __future__ import annotations

import numpy as np
import pytest

import kseg
from kseg.data import Sample, from_arrays, preprocess
from kseg.errors import DataError, UsageError
from kseg.models.forms import Head
from kseg.training.sampling import CentreSampler, ForHeads, PatchBatches, SparseLabels

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
