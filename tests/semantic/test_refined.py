"""A predictor with refiners around it, and the table of refiners."""

from __future__ import annotations

import importlib
import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_runtime import Identity, Smooth, picture, toy_spec

from kseg.errors import DataError, UsageError
from kseg.inference import Predictor, evaluate
from kseg.semantic.inference.scored import gives_log_probabilities
from kseg.semantic.refine import Refined, create, describe, names, parse, registry
from kseg.semantic.refine.superpixels import SuperpixelPooling

CLASSES = 4


class Shifted:
    """Moves every class on by `by`, and remembers what it saw."""

    def __init__(self, by: int = 1, spec: Any = None) -> None:
        self.by, self.closed = by, False
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        if spec is not None:
            self.spec = spec

    def __call__(self, image: np.ndarray, logits: np.ndarray) -> np.ndarray:
        self.seen.append((image, logits))
        return np.roll(logits, self.by, axis=-1)

    def close(self) -> None:
        self.closed = True


def ids(seed: int, shape: tuple[int, int] = (5, 7)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CLASSES, shape)


def predictor(**options: Any) -> Predictor:
    return Predictor(Identity(toy_spec(CLASSES)), **options)


def test_refiners_work_in_order_on_the_predictors_logits() -> None:
    first, second = Shifted(1), Shifted(2)
    refined = Refined(predictor(), [first, second])
    truth = ids(0)
    image = picture(truth)
    masks = refined(image)
    assert masks[0].dtype == np.uint8
    np.testing.assert_array_equal(masks[0], (truth + 3) % CLASSES)
    np.testing.assert_array_equal(first.seen[0][0], image)
    np.testing.assert_array_equal(first.seen[0][1], predictor().logits(image))
    np.testing.assert_array_equal(second.seen[0][1], np.roll(first.seen[0][1], 1, axis=-1))
    np.testing.assert_array_equal(refined.logits(image).argmax(axis=-1), masks[0])


def test_stream_reads_one_image_at_a_time() -> None:
    read: list[int] = []

    def images() -> Any:
        for index in range(3):
            read.append(index)
            yield picture(ids(index))

    stream = Refined(predictor(batch_size=3), [Shifted(0)]).stream(images())
    np.testing.assert_array_equal(next(stream), ids(0))
    assert read == [0]
    np.testing.assert_array_equal(next(stream), ids(1))


def test_it_has_the_predictors_surface() -> None:
    inner = Predictor(
        Smooth(toy_spec(CLASSES)), size=(6, 8), resize="stretch", overlap=0.5, flip=True, scales=(0.5, 1)
    )
    refined = Refined(inner, [Shifted(0)])
    for name in ("spec", "runtime", "size", "resize", "overlap", "flip", "scales"):
        assert getattr(refined, name) == getattr(inner, name)
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    np.testing.assert_array_equal(refined(image)[0], inner(image)[0])
    refined.set_bias([0, 0, 0, 1e6])
    assert (refined(image)[0] == 3).all()


def test_evaluate_takes_it_and_void_stays_out() -> None:
    samples = []
    for index in range(3):
        mask = (ids(index) + 1) % CLASSES
        mask[0] = 255
        samples.append(SimpleNamespace(name=str(index), image=picture(ids(index)), mask=mask))
    refined = Refined(predictor(), [Shifted(1)])
    confusion = evaluate(refined, samples)  # type: ignore[arg-type]
    assert confusion.scores()["pixel_acc"] == 1
    assert confusion.total == 3 * 4 * 7


def test_an_image_in_tiles_is_refined_whole() -> None:
    image = picture(ids(3, (40, 50)))
    tiled = predictor(size=(16, 16), resize="none")
    pooling = SuperpixelPooling(scale=1000, sigma=0, min_size=200)
    expected = pooling(image, predictor().logits(image))
    np.testing.assert_allclose(Refined(tiled, [pooling]).logits(image), expected, atol=1e-4)


def test_close_closes_all() -> None:
    refiner = Shifted()
    refined = Refined(predictor(), [refiner, SuperpixelPooling()])
    refined.close()
    assert refiner.closed
    assert refined.runtime.closed  # type: ignore[attr-defined]


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one refiner"):
        Refined(predictor(), [])
    with pytest.raises(UsageError, match="only the data have 4"):
        Refined(predictor(), [Shifted(spec=toy_spec(CLASSES + 1))])

    class Broken(Identity):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            logits = super().__call__(images)
            logits[:, 0, 0, 1] = np.nan
            return logits

    with pytest.raises(DataError, match="not finite at 1 of 35 pixels"):
        Refined(Predictor(Broken(toy_spec(CLASSES))), [Shifted()])(picture(ids(0)))


# --- the table ---


@pytest.mark.parametrize("name", names())
def test_the_table_says_what_the_classes_take(name: str) -> None:
    entry = describe(name)
    module, _, factory = entry.factory.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), factory))
    taken = dict(signature.parameters)
    if taken.pop("superpixels", None) is not None:
        cut = importlib.import_module("kseg.semantic.refine.superpixels").Superpixels
        taken |= inspect.signature(cut).parameters
    for argument in entry.arguments:
        assert taken[argument.name].default == argument.default
    assert {argument.name for argument in entry.arguments} >= set(taken) - {"compatibility"}


@pytest.mark.parametrize("name", names())
def test_every_refiner_gives_scores_of_the_logits_shape(name: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (14, 18, 3), np.uint8)
    logits = np.random.default_rng(2).normal(size=(14, 18, 5)).astype(np.float32)
    given, kept = image.copy(), logits.copy()
    scores = create(name)(image, logits)
    assert scores.shape == logits.shape
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(image, given)
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.parametrize("name", names())
def test_sure_logits_on_a_visible_edge_stay(name: str) -> None:
    image = np.full((16, 20, 3), 30, np.uint8)
    image[:, 10:] = 220
    truth = (image[..., 0] > 100).astype(int)
    scores = create(name)(image, np.eye(3, dtype=np.float32)[truth] * 20)
    np.testing.assert_array_equal(scores.argmax(axis=-1), truth)


def test_refiners_can_follow_each_other() -> None:
    image = np.random.default_rng(1).integers(0, 256, (14, 18, 3), np.uint8)
    scores = np.random.default_rng(2).normal(size=(14, 18, 5)).astype(np.float32)
    for name in [*names(), *reversed(names())]:
        scores = create(name)(image, scores)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("superpixels", ("superpixels", {})),
        ("Superpixel_CRF:gamma=5", ("superpixel-crf", {"gamma": 5.0})),
        ("superpixels:method=slic, n-segments=7", ("superpixels", {"method": "slic", "n_segments": 7})),
        ("tree-cover:classifier=C:\\x=y.keras", ("tree-cover", {"classifier": "C:\\x=y.keras"})),
    ],
)
def test_parse(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("superpixl", "no refiner 'superpixl'. Did you mean 'superpixels'"),
        ("", "expected NAME"),
        ("superpixels:scal=1", "no argument `scal`. Did you mean 'scale'"),
        ("superpixels:scale", "expected key=value, received 'scale'"),
        ("superpixels:scale=", "expected key=value"),
        ("superpixels:scale=big", "`scale` must be a number. Received: scale='big'"),
        ("superpixels:min_size=2.5", "`min_size` must be a whole number"),
        ("superpixels:scale=1,scale=2", "`scale` is given twice"),
    ],
)
def test_parse_refuses(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        parse(text)


def test_create_refuses_with_the_refiners_name() -> None:
    with pytest.raises(UsageError, match="Refiner 'superpixels': Argument `scale` must be"):
        create("superpixels", scale=-1)
    with pytest.raises(UsageError, match="has no argument `classifier`"):
        create("superpixels", classifier="x")


def test_help_names_every_refiner_and_argument() -> None:
    text = registry.help_text(78)
    for name in names():
        assert f"{name}:" in text
        for argument in describe(name).arguments:
            assert f"  {argument.name}: " in text
    assert max(map(len, text.splitlines())) <= 78


def test_scores_of_refiners_are_known_as_log_probabilities() -> None:
    assert gives_log_probabilities(Refined(predictor(), [SuperpixelPooling()]))
