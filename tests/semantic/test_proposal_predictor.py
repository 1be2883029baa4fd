"""Proposal-wise inference: every box lands where it was cut, merging is what the paper says it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from fake_runtime import RAW, Identity, Smooth, picture, toy_spec
from numpy.typing import NDArray

from kseg.data import Sample
from kseg.errors import UsageError
from kseg.inference import Predictor, evaluate
from kseg.semantic.inference.ensemble import EnsembleRuntime
from kseg.semantic.inference.proposal_predictor import MIN_SIDE, ProposalPredictor
from kseg.spec import Spec

VOC = Spec(classes=("background", "cat", "dog"), normalization=RAW)
STREET = Spec(classes=("road", "car", "pole"), normalization=RAW)
Box = tuple[int, int, int, int]


def fixed(*boxes: Box) -> Callable[[NDArray], NDArray]:
    return lambda image: np.array(boxes, np.int32).reshape(-1, 4)


def on(runtime: Any, *boxes: Box, **options: Any) -> ProposalPredictor:
    """Boxes as they are, none too small."""
    return ProposalPredictor(runtime, method=fixed(*boxes), **{"enlarge": 1, "min_side": 1, **options})


class Scores(Identity):
    """Logits are `red - 100`, `green - 100` and `blue - 100`: any scores can be painted."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(images.shape)
        return images - np.float32(100)


def painted(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 200, (*size, 3), dtype=np.uint8)


def test_boxes_of_the_network_size_give_the_scores_of_the_pixels_and_zero_elsewhere() -> None:
    image = painted((40, 60))
    merged = on(Scores(VOC, (16, 20)), (3, 5, 19, 25), (20, 30, 36, 50)).logits(image)
    wanted = np.zeros((40, 60, 3), np.float32)
    for rows, columns in ((slice(3, 19), slice(5, 25)), (slice(20, 36), slice(30, 50))):
        wanted[rows, columns] = np.maximum(image[rows, columns] - np.float32(100), 0)
    assert merged.dtype == np.float32
    assert np.array_equal(merged, wanted)


def test_negative_scores_become_zero_and_the_background_wins_there() -> None:
    image = np.full((20, 20, 3), 50, np.uint8)
    image[:10] = (20, 30, 150)
    mask = on(Scores(VOC, (20, 20)), (0, 0, 20, 20))(image)[0]
    assert (mask[:10] == 2).all()
    assert (mask[10:] == 0).all()


def test_overlaps_take_the_larger_score_or_the_mean() -> None:
    class Counting(Scores):
        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            scores = np.full(images.shape, 1 + len(self.shapes) * 2, np.float32)
            self.shapes.append(images.shape)
            return scores

    boxes = (0, 0, 10, 10), (5, 5, 15, 15)
    image = np.zeros((20, 20, 3), np.uint8)
    greatest = on(Counting(VOC, (10, 10)), *boxes).logits(image)[..., 0]
    mean = on(Counting(VOC, (10, 10)), *boxes, merge="mean").logits(image)[..., 0]
    for values, both in ((greatest, 3), (mean, 2)):
        assert values[2, 2] == 1
        assert values[7, 7] == both
        assert values[12, 12] == 3
        assert values[2, 12] == 0


def test_merging_is_order_invariant_and_idempotent() -> None:
    image = painted((48, 64))
    boxes = (0, 0, 30, 40), (10, 20, 48, 60), (-5, 3, 20, 50)
    wanted = on(Scores(VOC, (12, 16)), *boxes).logits(image)
    for order in permutations(boxes):
        assert np.array_equal(on(Scores(VOC, (12, 16)), *order).logits(image), wanted)
    assert np.array_equal(on(Scores(VOC, (12, 16)), *boxes, *boxes).logits(image), wanted)
    mean = on(Scores(VOC, (12, 16)), *boxes, merge="mean").logits(image)
    other = on(Scores(VOC, (12, 16)), *boxes[::-1], *boxes, merge="mean").logits(image)
    np.testing.assert_allclose(other, mean, rtol=1e-5, atol=1e-4)


def test_crops_are_stretched_to_the_network_and_back_unshifted() -> None:
    """A linear ramp survives bilinear stretching away from the borders: any shift would show."""
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], 90, axis=0).repeat(3, axis=2)
    spec = toy_spec(2)
    runtime = Smooth(spec, (30, 40))
    merged = on(runtime, (0, 0, 90, 120), merge="mean").logits(ramp)
    assert runtime.shapes == [(1, 30, 40, 3)]
    wanted = np.arange(0, 240, 2) / 100 - 1
    assert np.abs(merged[45, 3:-3, 1] - wanted[3:-3]).max() < 0.02


def test_outside_the_image_crops_are_black_or_the_fill() -> None:
    seen: list[NDArray] = []

    class Watching(Scores):
        def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(images[0])
            return super().__call__(images)

    image = painted((20, 20)) // 2 + 100
    for fill in ((0, 0, 0), (7, 8, 9)):
        on(Watching(VOC, (20, 20)), (-10, -10, 10, 10), fill=fill).logits(image)
        assert (seen[-1][:10] == fill).all()
        assert (seen[-1][:, :10] == fill).all()
        assert np.array_equal(seen[-1][10:, 10:], image[:10, :10])


@pytest.mark.parametrize(
    ("min_side", "shape", "kept"),
    [
        (112, (375, 500), [True, False, True]),
        (MIN_SIDE, (375, 500), [True, False, True]),
        (MIN_SIDE, (375, 1000), [False, False, False]),
        (1, (375, 500), [True, True, True]),
        (0, (375, 500), [True, True, True]),
    ],
)
def test_boxes_with_a_short_side_are_passed_over(min_side: float, shape: Any, kept: list[bool]) -> None:
    boxes = (0, 0, 112, 200), (0, 0, 111, 300), (100, 100, 300, 212)
    found = on(Scores(VOC, (8, 8)), *boxes, min_side=min_side).boxes(np.zeros((*shape, 3), np.uint8))
    assert found.tolist() == [list(box) for box, keep in zip(boxes, kept, strict=True) if keep]


def test_short_boxes_do_not_count_and_boxes_are_measured_enlarged() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    boxes = (0, 0, 20, 20), (50, 50, 150, 150), (50, 60, 150, 160), (50, 70, 150, 170)
    found = on(Scores(VOC, (8, 8)), *boxes, min_side=112, enlarge=1.2, count=2).boxes(image)
    assert found.tolist() == [[40, 40, 160, 160], [40, 50, 160, 170]]
    whole = on(Scores(VOC, (8, 8)), *boxes, min_side=112, whole_image=True).boxes(image)
    assert whole.tolist() == [[0, 0, 300, 400]]


@pytest.mark.parametrize("boxes", [(), ((2, 2, 12, 12),)])
@pytest.mark.parametrize("merge", ["max", "mean"])
def test_pixels_without_a_proposal_are_background_where_there_is_one(merge: str, boxes: tuple) -> None:
    runtime = Scores(VOC, (10, 10))
    image = np.full((20, 20, 3), (20, 30, 150), np.uint8)
    mask = on(runtime, *boxes, merge=merge)(image)[0]
    inside = np.zeros((20, 20), bool)
    for y0, x0, y1, x1 in boxes:
        inside[y0:y1, x0:x1] = True
    assert np.array_equal(mask, np.where(inside, 2, 0))
    assert len(runtime.shapes) == len(boxes)


@pytest.mark.parametrize("boxes", [(), ((2, 2, 12, 12),)])
@pytest.mark.parametrize("merge", ["max", "mean"])
def test_without_a_background_they_are_what_the_whole_image_says(merge: str, boxes: tuple) -> None:
    image = painted((20, 20))
    base = Predictor(Scores(STREET, (20, 20)))
    merged = on(base, *boxes, merge=merge).logits(image)
    outside = np.ones((20, 20), bool)
    for y0, x0, y1, x1 in boxes:
        outside[y0:y1, x0:x1] = False
    assert np.array_equal(merged[outside], base.logits(image)[outside])
    assert np.array_equal(on(base, *boxes, merge=merge, fallback=False).logits(image)[outside].max(), 0)


def test_without_a_background_a_pixel_without_a_positive_score_falls_back_too() -> None:
    image = np.full((20, 20, 3), (20, 90, 50), np.uint8)
    mask = on(Scores(STREET, (20, 20)), (0, 0, 20, 20))(image)[0]
    assert (mask == 1).all()


def test_when_everything_is_covered_the_whole_image_is_not_looked_at() -> None:
    runtime = Identity(toy_spec(3), (20, 20))
    on(runtime, (0, 0, 20, 20))(picture(np.ones((20, 20), int)))
    assert len(runtime.shapes) == 1


@pytest.mark.parametrize("method", ["selective-search", "edge-boxes"])
def test_objects_are_found_by_the_methods_of_opencv(method: str) -> None:
    ids = np.zeros((90, 120), np.uint8)
    ids[20:70, 30:90] = 200
    runtime = Identity(toy_spec(201), (90, 120))
    mask = ProposalPredictor(runtime, method=method, count=10, max_side=120)(picture(ids))[0]
    assert (mask == ids).mean() > 0.97


def test_flat_images_have_no_edge_boxes_and_a_defined_result() -> None:
    flat = np.full((20, 20, 3), (20, 30, 150), np.uint8)
    voc = ProposalPredictor(Scores(VOC, (8, 8)), method="edge-boxes")
    street = ProposalPredictor(Scores(STREET, (8, 8)), method="edge-boxes")
    assert (voc(flat)[0] == 0).all()
    assert (street(flat)[0] == 2).all()


def test_the_surface_of_a_predictor() -> None:
    runtime = Identity(toy_spec(3, input_size=(20, 20)))
    model = on(Predictor(runtime, overlap=0.5), (0, 0, 20, 20))
    assert (model.size, model.resize, model.overlap, model.flip, model.scales, model.batch_size) == (
        (20, 20),
        "stretch",
        0.5,
        False,
        (1.0,),
        1,
    )
    assert model.spec is runtime.spec
    assert model.runtime is runtime
    ids = np.random.default_rng(0).integers(0, 3, (20, 20))
    assert [mask.dtype for mask in model.stream([picture(ids)] * 2)] == [np.uint8] * 2
    confusion = evaluate(model, [Sample("a", picture(ids), ids.astype(np.uint8))])
    assert confusion.scores()["miou"] == 1
    model.close()
    assert runtime.closed


def test_bias_and_flip_of_the_predictor_hold_for_crops() -> None:
    image = painted((20, 20))
    base = Predictor(Scores(VOC, (20, 20)), bias=[0, 0, 40])
    assert np.array_equal(on(base, (0, 0, 20, 20)).logits(image), np.maximum(base.logits(image), 0))
    late = on(Scores(VOC, (20, 20)), (0, 0, 20, 20))
    late.set_bias([0, 0, 40])
    assert np.array_equal(late.logits(image), np.maximum(base.logits(image), 0))
    flipped = Predictor(Scores(VOC, (20, 20)), flip=True)
    merged = on(flipped, (0, 0, 20, 20), merge="mean").logits(image)
    np.testing.assert_allclose(merged, flipped.logits(image), rtol=1e-5)


def test_the_rule_of_the_predictor_is_left_as_it_was() -> None:
    base = Predictor(Scores(STREET, (10, 10)))
    on(base, (0, 0, 20, 20))
    assert (base.resize, base.size) == ("none", (10, 10))


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (Scores(VOC), {}, ["size=(height, width)"]),
        (Scores(VOC, (8, 8)), {"size": (9, 9)}, ["8x8", "(9, 9)"]),
        (Scores(VOC, (8, 8)), {"merge": "maximum"}, ["`merge`", "Did you mean 'max'?"]),
        (Scores(VOC, (8, 8)), {"count": 0}, ["`count`", "0"]),
        (Scores(VOC, (8, 8)), {"min_side": -1}, ["`min_side`", "-1"]),
        (Scores(VOC, (8, 8)), {"enlarge": 0.5}, ["`enlarge`", "0.5"]),
        (Scores(VOC, (8, 8)), {"method": "selectivesearch"}, ["Did you mean 'selective-search'?"]),
        (Scores(VOC, (8, 8)), {"max_side": 3, "method": "edge-boxes"}, ["`max_side`"]),
    ],
)
def test_bad_arguments_are_named(source: Any, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        ProposalPredictor(source, **{"method": fixed((0, 0, 4, 4)), **options})
    assert all(word in str(caught.value) for word in words), caught.value


def test_log_probabilities_are_not_merged_onto_zeros() -> None:
    flipped = Predictor(Scores(VOC, (8, 8)), flip=True)
    both = EnsembleRuntime([Scores(VOC, (8, 8)), Scores(VOC, (8, 8))])
    for source in (flipped, both):
        with pytest.raises(UsageError, match="merge='mean'"):
            ProposalPredictor(source)
        assert ProposalPredictor(source, merge="mean").log_probabilities


def test_boxes_of_the_caller_are_checked() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(UsageError, match=r"\(N, 4\)"):
        on(Scores(VOC, (8, 8)), (5, 5, 5, 9)).logits(image)
    with pytest.raises(UsageError, match=r"\(1, 3\)"):
        ProposalPredictor(Scores(VOC, (8, 8)), method=lambda image: np.ones((1, 3), int)).logits(image)


def test_a_keras_network_without_a_fixed_size_is_run_at_the_size_asked_for(tmp_path: Path) -> None:
    from kseg import saving

    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Activation("linear")(image))
    saving.save(network, tmp_path / "m.keras", VOC)
    ids = np.zeros((24, 24, 3), np.uint8)
    ids[4:20, 4:20, 1] = 200
    model = ProposalPredictor(
        tmp_path / "m.keras", method=fixed((4, 4, 20, 20)), size=(12, 12), min_side=1, enlarge=1
    )
    assert model.size == (12, 12)
    assert np.array_equal(model(ids)[0] == 1, ids[..., 1] > 0)
    model.close()
