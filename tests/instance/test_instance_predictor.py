"""Objects of images of any size, from a runtime that is never wrong: what is lost is the predictor's."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import SPEC, Blobs, Oracle, blobs

from kseg.boxes import bounds
from kseg.errors import ArtefactError, UsageError
from kseg.inference import evaluate
from kseg.instance.joining import Piece, objects
from kseg.instance.predictor import InstancePredictor, pasted
from kseg.instance.windows import seen_better

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


@pytest.mark.parametrize("early", [0, 2])
@pytest.mark.parametrize(
    ("size", "radius", "overlap"),
    [
        ((64, 64), 7, 0.25),
        ((130, 170), 4, 0.1),
        ((150, 100), 9, 0.25),
        ((99, 201), 12, 0.4),
        ((200, 200), 15, 0.5),
        # From here on larger than what windows share: 16, 16 and 32 pixels; the last larger than a window.
        ((150, 190), 14, 0.25),
        ((200, 130), 26, 0.25),
        ((160, 220), 45, 0.5),
    ],
)
def test_every_disc_is_found_whole_and_once(
    size: tuple[int, int], radius: int, overlap: float, early: int
) -> None:
    step, low = 2 * radius + 2, radius + 3
    discs = [
        (row + (column // step) % 2, column, radius)
        for row in range(low, size[0] - low, step)
        for column in range(low, size[1] - low, step)
    ]
    assert_whole(blobs("discs", size, discs), Oracle(most=120, shades=True, early=early), overlap)


@pytest.mark.parametrize("radius", [8, 24])
def test_discs_that_touch_stay_apart(radius: int) -> None:
    """Side by side over a seam, and one above the other."""
    middle = 75
    discs = [
        (60, middle - radius, radius),
        (60, middle + radius + 1, radius),
        (61 + 2 * radius, middle, radius),
    ]
    assert_whole(blobs("touching", (150, 150), discs), Oracle(shades=True), 0.25)


def assert_whole(sample: Blobs, oracle: Oracle, overlap: float) -> None:
    found = InstancePredictor(oracle, overlap=overlap)(sample.image)[0]
    assert len(found) == len(sample.instances)
    masks = np.stack([found.mask(index) for index in range(len(found))])
    matched = []
    for identity in range(1, len(sample.instances) + 1):
        true = sample.instances.mask(identity)
        shares = (masks & true).sum(axis=(1, 2)) / (masks | true).sum(axis=(1, 2))
        assert shares.max() >= 0.9
        matched.append(int(shares.argmax()))
        rows, columns = bounds(true)
        box = rows.start, columns.start, rows.stop, columns.stop
        np.testing.assert_allclose(found.boxes[matched[-1]], box, atol=0.01)
    assert len(set(matched)) == len(found)


def piece(left: int, right: int, score: float, window: tuple[int, int], kind: int = 1) -> Piece:
    """What a window of columns shows of a bar of 10 rows."""
    place = np.array([0, left, 10, right])
    view = np.array([0, window[0], 64, window[1]])
    return Piece(place.astype(np.float32), score, kind, np.ones((10, right - left), bool), place, view)


def places(pieces: list[Piece]) -> list[list[int]]:
    return [[*each.place[[1, 3]].tolist(), each.score] for each in objects(pieces, (64, 112))]


def test_pieces_of_one_object_become_one() -> None:
    first, second = (0, 64), (48, 112)
    # Both windows show the whole: the one that shows it further from its border says where it is.
    assert places([piece(49, 58, 0.9, second), piece(45, 58, 0.5, first)]) == [[45, 58, 0.9]]
    # Both cut it: together they show it.
    assert places([piece(30, 64, 0.5, first), piece(48, 80, 0.9, second)]) == [[30, 80, 0.9]]
    # They do not agree on what both show, are of another class, or of one window.
    apart = [piece(30, 64, 0.5, first), piece(58, 80, 0.9, second)]
    assert len(places(apart)) == 2
    assert len(places([piece(30, 64, 0.5, first), piece(48, 80, 0.9, second, kind=2)])) == 2
    assert len(places([piece(30, 50, 0.5, first), piece(30, 50, 0.9, first)])) == 2
    assert places([]) == []


def test_what_another_window_shows_inside_of_an_object_is_none() -> None:
    first, second = (0, 64), (32, 96)
    large, small = piece(36, 60, 0.9, first), piece(40, 49, 0.5, second)
    assert places([large, small]) == [[36, 60, 0.9]]
    assert places([piece(36, 60, 0.4, first), small]) == [[40, 49, 0.5]]
    # A window may show an object on another.
    assert len(places([large, piece(40, 49, 0.5, first)])) == 2


def test_what_a_window_cuts_is_left_to_one_that_shows_more_of_it() -> None:
    first, second = (0, 0, 64, 64), (0, 48, 64, 112)
    rows = [
        # Cut by the first window's border; the second shows all of it, cuts it too, or does not hold it.
        (first, (0, 52, 9, 63), True),
        (first, (0, 50, 9, 63), False),
        (first, (0, 40, 9, 63), False),
        # Cut by nobody: the image's borders do not cut.
        (first, (0, 0, 9, 9), False),
        (second, (0, 100, 9, 112), False),
    ]
    views, boxes, better = zip(*rows, strict=True)
    found = seen_better(np.array(boxes, np.float32), np.array(views), (64, 112))
    assert found.tolist() == list(better)


def test_arguments() -> None:
    with pytest.raises(UsageError, match="runs at 32x32 only"):
        InstancePredictor(Oracle((32, 32)), size=(64, 64))
    bare = Oracle()
    bare.spec = SPEC.replace(input_size=None)
    with pytest.raises(UsageError, match="Nobody says at which size"):
        InstancePredictor(bare)
    with pytest.raises(UsageError):
        InstancePredictor(Oracle(), overlap=1.0)


@pytest.mark.parametrize("size", ["64x64", (64,), (0, 64), (64, -1), 6.5])
def test_a_size_is_two_numbers(size: object) -> None:
    with pytest.raises(UsageError, match="`size`"):
        InstancePredictor(Oracle(), size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("scores", np.nan, "scores that are no finite numbers"),
        ("boxes", np.inf, "boxes that are no finite numbers"),
        ("masks", np.nan, "masks that are no finite numbers"),
        ("classes", 7, "says class 7, and its spec has 2 classes"),
    ],
)
def test_what_no_whole_network_says_is_refused(
    name: str, value: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, right = Oracle(), Oracle.outputs

    def spoiled(self: Oracle, images: np.ndarray) -> dict[str, np.ndarray]:
        found = {key: np.array(part) for key, part in right(self, images).items()}
        found[name].reshape(-1)[0] = value
        return found

    monkeypatch.setattr(Oracle, "outputs", spoiled)
    with pytest.raises(ArtefactError, match=said):
        InstancePredictor(runtime)(blobs("one", (64, 64), ONE).image)
