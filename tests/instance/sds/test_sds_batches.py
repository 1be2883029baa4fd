"""What SDS learns from: the regions of real files, drawn, labelled and cropped."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import regions

from kseg import data
from kseg.data.instances import stack
from kseg.data.proposals import Proposer, StoredProposer
from kseg.data.run_lengths import Masks
from kseg.data.sample import Sample
from kseg.errors import DataError
from kseg.instance.sds.batches import RegionBatches
from kseg.instance.sds.candidates import Candidates
from kseg.instance.sds.tuning import tune
from kseg.models import SDS
from kseg.spec import Spec

SIZE = (32, 32)


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> StoredProposer:
    return StoredProposer(Proposer(method="regions", boundaries="color"), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory, proposer: StoredProposer) -> Candidates:
    samples = data.open(regions.folder(tmp_path_factory.mktemp("data"), 5)).samples("train")
    return Candidates(samples, proposer, 60, samples.spec, SIZE)


def test_overlaps_are_those_of_masks_and_of_boxes(candidates: Candidates) -> None:
    for place, found in enumerate(candidates.overlaps):
        scene = candidates.scene(place)
        assert found.classes.tolist() == [1, 2]
        for row in (0, 1, 2, 7, len(found) - 1):
            mask = scene.objects.mask(row) if row < 2 else scene.proposals.mask(row - 2)
            for item in (0, 1):
                true = scene.objects.mask(item)
                share = (mask & true).sum() / (mask | true).sum()
                assert found.masks[row, item] == pytest.approx(share, abs=1e-6)
        np.testing.assert_array_equal(found.masks[:2], np.eye(2))
        # Squares and discs stand out: some proposal has each.
        assert (found.masks[2:].max(axis=0) > 0.7).all()


@pytest.mark.parametrize("by", ["box", "region"])
def test_a_quarter_of_a_batch_are_objects_by_the_overlap_asked_for(candidates: Candidates, by: str) -> None:
    batches = RegionBatches(candidates, by, images=2, per_image=16, mirror=False)
    assert len(batches) == 3
    for index in range(3):
        crops, truth = batches[index]
        assert crops.shape == (32, *SIZE, 4)
        classes = truth["logits"]
        for image in (classes[:16], classes[16:]):
            # Few regions of such an image are an object's.
            assert 2 <= (image > 0).sum() <= 4
        assert set(np.unique(crops[..., 3])) == {0, 1}
        assert (crops[..., 3].sum(axis=(1, 2)) > 0).all()


def test_an_epoch_shows_each_image_and_is_the_same_again(candidates: Candidates) -> None:
    batches = RegionBatches(candidates, "region", images=2, per_image=4, seed=3)
    first = [batches[index][0] for index in range(3)]
    batches.on_epoch_end()
    assert any((batches[index][0] != first[index]).any() for index in range(3))
    batches.set_epoch(0)
    for index in range(3):
        np.testing.assert_array_equal(batches[index][0], first[index])


def test_mirrored_crops_are_mirrored_with_their_masks(candidates: Candidates) -> None:
    plain = RegionBatches(candidates, "box", images=2, per_image=8, mirror=False)[0][0]
    turned = RegionBatches(candidates, "box", images=2, per_image=8, mirror=True)[0][0]
    same = [(a == b).all() for a, b in zip(plain, turned, strict=True)]
    mirrored = [(a[:, ::-1] == b).all() for a, b in zip(plain, turned, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert 0 < sum(same) < len(same)


def test_the_last_layer_learns_faster_and_its_constants_twice_as_fast(candidates: Candidates) -> None:
    """One step of the same batch: weights of the last layer move by the factor, all others as before."""
    moved = []
    for factor in (1.0, 10.0):
        keras.utils.set_random_seed(0)
        # Without dropout a step is the same each time.
        network = SDS((*SIZE, 4), 3, pathways=["box"], trunk="residual", width=0.0625, dropout=0.0)
        batches = RegionBatches(candidates, "box", images=5, per_image=4)
        before = {weight.path: np.array(weight) for weight in network.trainable_variables}
        tune(
            network,
            batches,
            epochs=1,
            learning_rate=1e-3,
            logits_rate=factor,
            name="n",
            say=lambda line: None,
        )
        moved.append(
            {weight.path: np.array(weight) - before[weight.path] for weight in network.trainable_variables}
        )
    for path, one in moved[0].items():
        times = {"logits/kernel": 10, "logits/bias": 20}.get(path, 1)
        np.testing.assert_allclose(moved[1][path], times * one, atol=0.02 * times * abs(one).max() + 1e-9)
        assert one.any()


def sample(masks: list[np.ndarray], crowd: list[bool], name: str = "one") -> Sample:
    image = np.full((32, 32, 3), 40, np.uint8)
    for mask in masks:
        image[mask] = 200
    instances = stack(Masks.from_masks(masks, (32, 32)), [1] * len(masks), crowd)
    return Sample(name, image, np.zeros((32, 32), np.uint8), instances)


def test_images_without_objects_and_crowds(proposer: StoredProposer) -> None:
    spec = Spec(classes=("background", "thing"))
    square = np.zeros((32, 32), bool)
    square[4:16, 6:18] = True
    group = np.zeros((32, 32), bool)
    group[20:30, 4:28] = True
    given = [sample([square, group], [False, True]), sample([], [], "none")]
    found = Candidates(given, proposer, 40, spec, SIZE)
    assert [len(each.classes) for each in found.overlaps] == [1, 0]
    assert found.overlaps[0].crowded.any()
    assert not found.overlaps[0].crowded[0]
    crops, truth = RegionBatches(found, "region", images=2, per_image=6)[0]
    assert crops.shape == (12, *SIZE, 4)
    assert 1 in truth["logits"]
    with pytest.raises(DataError, match="no object to learn from"):
        Candidates(given[1:], proposer, 40, spec, SIZE)
    bare = Sample("bare", given[0].image, given[0].mask)
    with pytest.raises(DataError, match="'bare' has no instances"):
        Candidates([bare], proposer, 40, spec, SIZE)


def test_boxes_alone(proposer: StoredProposer, tmp_path: Path) -> None:
    """Of a method without masks, overlaps are those of boxes."""
    square = np.zeros((32, 32), bool)
    square[4:16, 6:18] = True
    boxes = StoredProposer(Proposer(method="selective-search"), tmp_path)
    found = Candidates([sample([square], [False])], boxes, 20, Spec(classes=("background", "thing")), SIZE)
    np.testing.assert_array_equal(found.overlaps[0].masks, found.overlaps[0].boxes)
    assert found.scene(0).crops([0, 1]).shape == (2, *SIZE, 4)
