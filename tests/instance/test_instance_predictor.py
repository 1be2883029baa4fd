"""Objects of images of any size, from a runtime that is never wrong: what is lost is the predictor's."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import SPEC, Blobs, Oracle, blobs

from kseg.errors import UsageError
from kseg.inference import evaluate
from kseg.instance.predictor import InstancePredictor, pasted
from kseg.instance.windows import merged

ONE = [(20, 24, 8), (45, 12, 6), (40, 50, 10)]
# Two on the seam of windows of 64 x 64, one in a corner, one at the border.
LARGE = [(60, 64, 9), (30, 66, 7), (100, 140, 12), (118, 4, 8), (8, 150, 9), (70, 110, 5)]


def found_all(sample: Blobs, **options: object) -> float:
    predictor = InstancePredictor(Oracle(), **options)
    scorer = evaluate(predictor, [sample])
    scores = scorer.scores()
    assert scores["detections"] == scores["objects"], scores
    return float(scores["ap50"])


def test_an_image_of_the_network_s_size() -> None:
    sample = blobs("one", (64, 64), ONE)
    found = InstancePredictor(Oracle())(sample.image)[0]
    assert len(found) == 3
    assert found.size == (64, 64)
    scorer = evaluate(InstancePredictor(Oracle()), [sample])
    assert scorer.scores()["ap"] > 0.95


@pytest.mark.parametrize("size", [(40, 50), (64, 80), (128, 160), (63, 200)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_images_of_other_sizes_at_native_pixels(size: tuple[int, int], batch_size: int) -> None:
    circles = [
        circle
        for circle in [*ONE, *LARGE]
        if circle[0] + circle[2] < size[0] and circle[1] + circle[2] < size[1]
    ]
    apart = [
        c
        for i, c in enumerate(circles)
        if all(np.hypot(c[0] - d[0], c[1] - d[1]) > c[2] + d[2] + 2 for d in circles[:i])
    ]
    assert found_all(blobs("any", size, apart), batch_size=batch_size, overlap=0.4) == pytest.approx(1)


def test_an_object_on_the_seam_is_found_once() -> None:
    sample = blobs("seam", (128, 160), LARGE)
    found = InstancePredictor(Oracle(), overlap=0.5)(sample.image)[0]
    assert len(found) == len(LARGE)
    areas = sorted(int(found.mask(index).sum()) for index in range(len(found)))
    true = sorted(int(sample.instances.mask(index + 1).sum()) for index in range(len(LARGE)))
    np.testing.assert_allclose(areas, true, rtol=0.12)


def test_an_object_larger_than_what_windows_share_is_not_lost() -> None:
    assert len(InstancePredictor(Oracle())(blobs("large", (64, 150), [(32, 70, 28)]).image)[0]) >= 1


@pytest.mark.parametrize("rule", ["stretch", "fit"])
def test_resized_images(rule: str) -> None:
    sample = blobs("resized", (128, 96), [(40, 30, 16), (90, 60, 20)])
    found = InstancePredictor(Oracle(), resize=rule)(sample.image)[0]
    assert len(found) == 2
    for index in range(2):
        mask = found.mask(index)
        overlaps = [
            (mask & sample.instances.mask(k)).sum() / (mask | sample.instances.mask(k)).sum() for k in (1, 2)
        ]
        assert max(overlaps) > 0.9


def test_nothing_there() -> None:
    found = InstancePredictor(Oracle())(np.zeros((100, 70, 3), np.uint8))[0]
    assert len(found) == 0
    assert found.size == (100, 70)


def test_a_mask_is_pasted_to_the_pixels_of_its_box() -> None:
    """A full grid fills the pixels whose centres lie in the box; a half one its half."""
    full, box = pasted(np.ones((28, 28), np.float32), np.array([2.4, 3.6, 6.4, 9.6], np.float32), (20, 20))
    assert box == (2, 3, 7, 10)
    expected = np.zeros((5, 7), bool)
    expected[0:4, 1:7] = True
    np.testing.assert_array_equal(full, expected)
    half = np.zeros((28, 28), np.float32)
    half[:, :14] = 1
    left, _ = pasted(half, np.array([0, 0, 4, 8], np.float32), (20, 20))
    np.testing.assert_array_equal(left, [[True] * 4 + [False] * 4] * 4)


def test_windows_do_not_remove_their_own() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [1, 1, 10, 10], [50, 50, 60, 60]], np.float32)
    scores, classes = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.ones(4, int)
    assert merged(boxes, scores, classes, np.array([0, 0, 1, 1])).tolist() == [0, 1, 3]
    assert merged(boxes, scores, np.array([1, 1, 2, 1]), np.array([0, 0, 1, 1])).tolist() == [0, 1, 2, 3]


def test_arguments() -> None:
    with pytest.raises(UsageError, match="runs at 32x32 only"):
        InstancePredictor(Oracle((32, 32)), size=(64, 64))
    bare = Oracle()
    bare.spec = SPEC.replace(input_size=None)
    with pytest.raises(UsageError, match="Nobody says at which size"):
        InstancePredictor(bare)
    with pytest.raises(UsageError):
        InstancePredictor(Oracle(), overlap=1.0)
