"""The parts of SDS by hand: crops, what is apart, refinement, SVMs, pasting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from regions import overlaps, tiles

from kseg.boxes import iou
from kseg.data.detections import Detections
from kseg.data.proposals import Proposals
from kseg.instance.pasting import Paste, pasted_classes, tuned
from kseg.instance.sds.crops import Cropper, with_context
from kseg.instance.sds.features import Features
from kseg.instance.sds.logistic import fit_logistic
from kseg.instance.sds.outputs import CELLS
from kseg.instance.sds.refinement import refined, superpixel_facts
from kseg.instance.sds.suppression import apart, boxes_apart
from kseg.instance.sds.svms import HARD, LATENT, Linear, latent, train_svms
from kseg.models.instance import sds as network
from kseg.spec import Normalization

RANDOM = np.random.default_rng(0)


def test_context_is_16_of_227_pixels_on_each_side() -> None:
    box = np.array([20.0, 30.0, 20 + 195, 30 + 390])
    np.testing.assert_allclose(with_context(box), [4, -2, 20 + 211, 30 + 422])


def test_a_crop_is_the_normalised_image_under_its_box() -> None:
    """At one pixel of the crop per pixel of the image; what lies outside the image is 0, the mean colour."""
    image = RANDOM.integers(0, 255, (40, 40, 3)).astype(np.uint8)
    normal = Normalization(mean=(10.0, 20.0, 30.0), std=(2.0, 2.0, 2.0))
    cropper = Cropper(image, normal, (227, 227))
    mask = np.zeros((40, 40), bool)
    mask[5:20, 7:33] = True
    # Of 195 pixels with its context: crop pixel (16, 16) is the box's first.
    crop = cropper.of_mask(mask, np.array([0, 0, 195, 195]))
    np.testing.assert_allclose(crop[16:56, 16:56, :3], (image - np.array([10.0, 20, 30])) / 2, atol=1e-4)
    assert not crop[:15].any()
    assert not crop[57:].any()
    np.testing.assert_array_equal(crop[16:56, 16:56, 3], mask)


def test_a_proposal_s_mask_is_that_of_its_superpixels() -> None:
    members = RANDOM.random((3, 16)) < 0.4
    found = tiles(members)
    image = RANDOM.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    cropper = Cropper(image, Normalization(), (50, 60))
    for index, crop in enumerate(cropper.of_proposals(found, range(3))):
        np.testing.assert_array_equal(crop, cropper.of_mask(found.mask(index), found.boxes[index]))


def test_a_box_without_a_mask_is_its_own_mask() -> None:
    image = np.zeros((30, 30, 3), np.uint8)
    found = Proposals(boxes=np.array([[3, 4, 23, 19]], np.int32), scores=np.ones(1, np.float32))
    crop = Cropper(image, Normalization(), (227, 227)).of_proposals(found, [0])[0]
    rows, columns = np.nonzero(crop[..., 3])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 210, 16, 210)
    assert crop[16:211, 16:211, 3].all()


def test_regions_that_stay_share_no_superpixel() -> None:
    members = RANDOM.random((60, 40)) < 0.15
    order = RANDOM.permutation(60)
    stay = apart(members, order)
    assert members[stay].sum(axis=0).max() <= 1
    assert stay[0] == order[0]
    rank = {int(index): place for place, index in enumerate(order)}
    for index in set(range(60)) - set(stay):
        sharing = [kept for kept in stay if (members[kept] & members[index]).any()]
        assert any(rank[kept] < rank[index] for kept in sharing)


def test_boxes_that_stay_overlap_by_no_more_than_three_tenths() -> None:
    low = RANDOM.integers(0, 40, (50, 2))
    boxes = np.concatenate([low, low + RANDOM.integers(5, 40, (50, 2))], axis=1)
    stay = boxes_apart(boxes, np.arange(50))
    shares = iou(boxes[stay], boxes[stay]) - np.eye(len(stay))
    assert shares.max() <= 0.3
    assert all(
        (iou(boxes[[i]], boxes[[k for k in stay if k < i]]) > 0.3).any() for i in range(50) if i not in stay
    )
    touching = np.array([[0, 0, 10, 10], [7, 0, 17, 10]])
    assert boxes_apart(touching, np.arange(2), most=iou(touching[:1], touching[1:])[0, 0]) == [0, 1]


def test_a_refined_region_is_constant_on_superpixels_and_follows_the_coarse_mask() -> None:
    members = np.zeros((1, 16), bool)
    members[0, [5, 6]] = True
    found = tiles(members)
    superpixels, _ = found.regions()
    areas = np.bincount(superpixels.reshape(-1))
    coarse = np.zeros((CELLS, CELLS))
    coarse[:, :5] = 0.9
    given = superpixels, areas, coarse, found.boxes[0], members[0]
    judged, facts = superpixel_facts(*given)
    assert set(judged) == {5, 6}
    assert facts[:, 0] == pytest.approx([0.9, 0.0], abs=0.15)
    for rule in ([1, 0, -0.5], [0, 1, -0.5], [5, -1, 0.1]):
        own = refined(*given, np.array(rule, float))
        picture = own[superpixels]
        for each in range(16):
            assert len(np.unique(picture[superpixels == each])) == 1
    assert np.flatnonzero(refined(*given, np.array([1, 0, -0.5]))).tolist() == [5]
    # A region that would lose everything stays as it was.
    assert np.flatnonzero(refined(*given, np.array([0, 0, -1.0]))).tolist() == [5, 6]


def test_a_coarse_mask_takes_superpixels_that_the_region_lacks() -> None:
    members = np.zeros((1, 16), bool)
    members[0, [0, 5]] = True
    found = tiles(members)
    superpixels, _ = found.regions()
    areas = np.bincount(superpixels.reshape(-1))
    own = refined(
        superpixels, areas, np.full((CELLS, CELLS), 0.95), found.boxes[0], members[0], np.array([1, 0, -0.5])
    )
    assert np.flatnonzero(own).tolist() == [0, 1, 4, 5]


def test_both_rooms_have_one_number_of_cells() -> None:
    assert network.CELLS == CELLS


def test_logistic_regressions_are_those_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x = RANDOM.normal(size=(80, 5))
    y = np.stack([x[:, 0] + 0.5 * RANDOM.normal(size=80) > 0.2, np.ones(80, bool)], axis=1)
    weights, constants = fit_logistic(x, y, 0.3)
    known = linear.LogisticRegression(C=0.3, solver="liblinear", tol=1e-8).fit(x, y[:, 0])
    np.testing.assert_allclose(weights[:, 0], known.coef_[0], atol=2e-3)
    assert constants[0] == pytest.approx(known.intercept_[0], abs=2e-3)
    # Of one value only, the constant says it.
    assert constants[1] > 0.5


def stored(folder: Path, features: list[np.ndarray]) -> Features:
    for place, each in enumerate(features):
        padded = np.concatenate([each, np.zeros((len(each), CELLS**2))], axis=1)
        np.save(folder / f"{place:06d}.npy", padded.astype(np.float16))
    return Features(folder, len(features))


@pytest.fixture
def learned(tmp_path: Path):
    """Two classes along two axes; a proposal of each object beside it, and much that is none."""
    images, features = [], []
    for _ in range(4):
        near = [
            [0.8, 0.0],
            [0.55, 0.0],
            [0.0, 0.7],
            [0.5, 0.1],
            [0.0, 0.0],
            [0.0, 0.1],
            [0.19, 0.0],
            [0.3, 0.0],
        ]
        images.append(overlaps(near, [1, 2], crowded=[9]))
        base = np.array([[3, 0], [0, 3], [2.8, 0.2], [3.3, 0], [0.1, 2.5], [2, 0], *[[0.2, 0.2]] * 3, [9, 9]])
        features.append(base + 0.05 * RANDOM.normal(size=base.shape))
    return stored(tmp_path, features), images


def test_svms_tell_classes_apart(learned) -> None:
    pytest.importorskip("sklearn")
    features, images = learned
    lines: list[str] = []
    found, counts = train_svms(features, images, 4, say=lines.append)
    margins = found(features.of(0))
    assert margins[[0, 2, 3], 0].min() > margins[[1, 4, 6, 7, 8], 0].max()
    assert margins[[1, 4], 1].min() > margins[[0, 2, 3, 6, 7, 8], 1].max()
    # Nobody has seen the third class; it is never found.
    assert (margins[:, 2] < -2).all()
    assert counts[0][0] == counts[1][0] == 4
    # Of 4 images: the other class's object, and 3 regions below 0.2 for the first class (one is in a crowd).
    assert counts[0][1] <= 4 * 5
    assert [line.split(":")[0] for line in lines] == ["SVMs, round 1", "SVMs, round 2"]


def test_latent_positives_overlap_their_object_by_more_than_a_half(learned) -> None:
    features, images = learned
    # The fourth region, with 0.55, scores best for class 1; the sixth, with 0.5, does not count.
    found = Linear(np.array([[1, 0], [0, 1]], np.float32), np.zeros(2, np.float32))
    positives = latent(features, images, found, 3)
    assert positives == [[(place, 3) for place in range(4)], [(place, 4) for place in range(4)]]
    for kind, chosen in enumerate(positives):
        assert all(images[place].masks[row, kind] > LATENT for place, row in chosen)
    alone = [overlaps([[0.2]], [1])]
    assert latent(features, alone, found, 3) == [[(0, 0)], []]
    assert HARD < -1


def test_labels_by_overlap() -> None:
    found = overlaps([[0.5, 0.1], [0.49, 0.2], [0.6, 0.7], [0.0, 0.0]], [1, 2], crowded=[5, 2])
    assert found.labels("region").tolist() == [1, 2, 1, 0, 2, -1]
    assert overlaps([[], []], [], crowded=[1]).labels("box").tolist() == [0, -1]


def detections(scores: list[float]) -> Detections:
    masks = np.zeros((len(scores), 8, 8), bool)
    for index in range(len(scores)):
        masks[index, index : index + 4] = True
    return Detections.from_masks(masks, scores, [1 + index % 2 for index in range(len(scores))], (8, 8))


def test_pasting_puts_the_surer_on_top() -> None:
    found = detections([0.9, 0.8, 0.3])
    assert pasted_classes(found, Paste())[:, 0].tolist() == [1, 1, 1, 1, 2, 0, 0, 0]
    assert pasted_classes(found, Paste(at_least=0.2))[:, 0].tolist() == [1, 1, 1, 1, 2, 1, 0, 0]
    assert pasted_classes(found, Paste(at_least=0.2, most=1))[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert pasted_classes(detections([]), Paste()).dtype == np.uint8


def test_pasting_is_tuned_to_so_many_segments_an_image() -> None:
    images = [detections([0.9, 0.8, 0.7]), detections([0.6, 0.5]), detections([])]
    for segments, count in ((2.0, 5), (1.0, 3), (0.5, 1)):
        how = tuned(images, segments)
        assert sum(int((found.scores >= how.at_least).sum()) for found in images) == count
        assert how.most == 10
    many = [detections([0.9] * 14)]
    # Of equal scores none or all: at most two means none.
    assert not (many[0].scores >= tuned(many, 2.0).at_least).any()
