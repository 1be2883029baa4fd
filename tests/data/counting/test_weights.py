"""Class weights by the formulas of the papers, and the counts they come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data_folders import SIZE, box, make_coco, make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kseg.data import check
from kseg.data import open as open_source
from kseg.data.counting import counts as counts_module
from kseg.data.counting.counts import ClassCounts, count_classes, count_masks, id_counts, survey
from kseg.data.counting.weights import SCHEMES, class_weights
from kseg.data.sample import evenly, masks_of
from kseg.data.threads import parallel
from kseg.errors import DataError, UsageError

counts_of = st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any)


@settings(deadline=None)
@given(counts_of, st.sampled_from(SCHEMES), st.floats(0, 1))
def test_weights_are_finite_and_positive_and_rare_is_never_lighter(counts, scheme, power):
    weights = class_weights(counts, scheme, power=power)
    assert weights.shape == (len(counts),)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    present = np.array(counts) > 0
    assert (weights[~present] == 1).all()
    order = np.argsort(np.array(counts)[present], kind="stable")
    assert (np.diff(weights[present][order]) <= 1e-9 * weights[present][order][:-1]).all()


@settings(deadline=None)
@given(counts_of, st.sampled_from(SCHEMES))
def test_mean_one_keeps_the_mean_over_pixels(counts, scheme):
    shares = np.array(counts) / sum(counts)
    assert (shares * class_weights(counts, scheme, mean_one=True)).sum() == pytest.approx(1)


def test_formulas_by_hand():
    counts = [700, 200, 100]
    np.testing.assert_allclose(class_weights(counts, "none"), [1, 1, 1])
    np.testing.assert_allclose(class_weights(counts, "inverse"), [1000 / 2100, 1000 / 600, 1000 / 300])
    np.testing.assert_allclose(class_weights(counts, "median_frequency"), [0.2 / 0.7, 1, 2])
    np.testing.assert_allclose(class_weights(counts, "sqrt_median"), np.sqrt([0.2 / 0.7, 1, 2]))
    np.testing.assert_allclose(class_weights(counts, "enet"), 1 / np.log([1.72, 1.22, 1.12]))
    np.testing.assert_allclose(
        class_weights(counts, "median_frequency", power=0.5), class_weights(counts, "sqrt_median")
    )
    # Class 2 stands only in images with 400 valid pixels in all: f = 0.7, 0.2, 0.25, median 0.25.
    np.testing.assert_allclose(
        class_weights(counts, "median_frequency", present=[1000, 1000, 400]), [0.25 / 0.7, 0.25 / 0.2, 1]
    )


def test_absent_classes_change_nothing_for_the_others():
    for scheme in SCHEMES:
        np.testing.assert_allclose(
            class_weights([700, 0, 200, 100], scheme)[[0, 2, 3]], class_weights([700, 200, 100], scheme)
        )


def test_wrong_arguments():
    with pytest.raises(UsageError, match=r"'medain_frequency'.*Did you mean 'median_frequency'"):
        class_weights([1, 2], "medain_frequency")
    with pytest.raises(UsageError, match="non-negative"):
        class_weights([1, -2])
    with pytest.raises(UsageError, match="no pixel"):
        class_weights([0, 0])
    with pytest.raises(UsageError, match="`present`"):
        class_weights([5, 5], present=[4, 9])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_id_counts_are_exact(dtype):
    mask = np.random.default_rng(0).integers(0, 250, (31, 17)).astype(dtype)
    values, counts = np.unique(mask, return_counts=True)
    assert id_counts(mask) == dict(zip(values.tolist(), counts.tolist(), strict=True))
    if dtype != np.uint8:
        mask[0, :3] = (-5, 2_000_000_000, -5)
        assert id_counts(mask)[-5] == 2
        assert id_counts(mask)[2_000_000_000] == 1
    assert id_counts(mask[:0]) == {}


def test_class_counts_keep_void_and_alien_ids_apart():
    counts = ClassCounts(3, 255)
    counts.add({0: 10, 2: 30, 255: 5})
    counts.add({0: 20, 7: 4})
    assert counts.pixels.tolist() == [30, 0, 30]
    assert counts.present.tolist() == [60, 0, 40]
    assert counts.images_with.tolist() == [2, 0, 1]
    assert (counts.void, counts.valid, counts.images, counts.other) == (5, 60, 2, {7: 4})
    assert counts.void_share() == pytest.approx(5 / 69)
    np.testing.assert_allclose(counts.shares(), [0.5, 0, 0.5])


def test_parallel_keeps_order_and_raises_in_the_caller():
    assert list(parallel(lambda value: value * 2, range(100))) == list(range(0, 200, 2))

    def fail(value):
        if value == 60:
            raise ValueError("the sixtieth")
        return value

    with pytest.raises(ValueError, match="sixtieth"):
        list(parallel(fail, range(100)))


def test_evenly_spaced_limit():
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7]
    assert evenly([1, 2], 5) == [1, 2]
    assert evenly([1, 2], None) == [1, 2]


def test_count_classes_of_a_folder(tmp_path):
    masks = [np.array([[0, 0, 1, 9]], np.uint8), np.array([[1, 1, 1, 0]], np.uint8)]
    for index, mask in enumerate(masks):
        for kind, pixels in (("images", np.zeros((1, 4, 3), np.uint8)), ("labels", mask)):
            (tmp_path / kind / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / "train" / f"{index}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "void_id": 9}))
    source = open_source(tmp_path)
    counts = count_classes(source, progress=lambda items, total: iter(items) if total == 2 else iter(()))
    assert counts.pixels.tolist() == [3, 4]
    assert counts.void == 1
    assert count_classes(source, limit=1).pixels.tolist() == [2, 1]
    with pytest.raises(DataError, match=r"no split 'trian'.*Did you mean 'train'"):
        count_classes(source, "trian")


def test_the_check_the_command_and_training_count_the_same(tmp_path, monkeypatch):
    """One count: of a folder with label maps and of one with instances, beyond what a survey looks at too."""
    monkeypatch.setattr(counts_module, "SURVEYED", 3)
    coco = [
        {"category_id": 9, "segmentation": box(1, 1, 8, 8)},
        {"category_id": 3, "segmentation": box(4, 4, 3, 3)},
    ]
    for folder in (make_folder(tmp_path / "maps", count=8), make_coco(tmp_path / "coco", coco)):
        source = open_source(folder, cache_dir=tmp_path / "cache")
        samples = source.samples("train")
        found = [
            count_classes(source),
            count_masks(masks_of(samples), source.spec),
            count_masks(masks_of(list(samples)), source.spec),
            check(folder).splits["train"].counts,
        ]
        for other in found[1:]:
            for name in ("pixels", "present", "images_with"):
                np.testing.assert_array_equal(getattr(other, name), getattr(found[0], name))
            assert (other.void, other.images, other.other) == (found[0].void, found[0].images, found[0].other)
        assert found[0].images == len(samples)
        seen = survey(masks_of(samples), source.spec)
        assert seen.sizes == (SIZE,)
        assert seen.counts.images == min(3, len(samples))
