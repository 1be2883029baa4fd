"""evaluate: exact counts at original size, void out, streaming, and no silent mix-up of classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fake_runtime import Identity, picture, toy_spec
from numpy.typing import NDArray

from kseg.errors import DataError, UsageError
from kseg.inference import Predictor, evaluate
from kseg.spec import Spec


@dataclass
class Sample:
    name: str
    image: NDArray[np.uint8]
    mask: NDArray[Any]


class Samples(Sequence):  # type: ignore[type-arg]
    """A sequence that makes its samples when asked, and remembers how many are alive."""

    def __init__(self, items: list[Sample], spec: Spec) -> None:
        self.items, self.spec = items, spec

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.items[index]


def samples(spec: Spec, count: int = 5) -> tuple[Samples, NDArray[np.int64]]:
    """Random truth with void, images that the identity network sees with errors; and the true matrix."""
    rng = np.random.default_rng(0)
    items, matrix = [], np.zeros((spec.num_classes, spec.num_classes), np.int64)
    for index in range(count):
        size = rng.integers(5, 60, 2)
        truth = rng.integers(0, spec.num_classes, size).astype(np.uint8)
        seen = np.where(rng.random(size) < 0.3, rng.integers(0, spec.num_classes, size), truth)
        truth[rng.random(size) < 0.2] = spec.ignore_id
        for i, j in zip(truth.ravel(), seen.ravel(), strict=True):
            if i != spec.ignore_id:
                matrix[i, j] += 1
        items.append(Sample(f"s{index}", picture(seen), truth))
    return Samples(items, spec), matrix


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_counts_equal_a_reference(batch: int) -> None:
    spec = toy_spec(4, ignore_id=200)
    given, expected = samples(spec)
    confusion = evaluate(Predictor(Identity(spec, (24, 32)), batch_size=batch), given)
    assert np.array_equal(confusion.matrix, expected)
    assert confusion.matrix.dtype == np.int64


def test_the_ignore_id_is_that_of_the_data() -> None:
    given, expected = samples(toy_spec(4, ignore_id=200))
    confusion = evaluate(Predictor(Identity(toy_spec(4, ignore_id=255))), given)
    assert np.array_equal(confusion.matrix, expected)


def test_progress_sees_every_sample() -> None:
    spec = toy_spec(4)
    given, _ = samples(spec)
    seen: list[str] = []

    def progress(items: Iterable[Sample], total: int | None, text: str) -> Iterator[Sample]:
        for item in items:
            seen.append(item.name)
            yield item

    evaluate(Predictor(Identity(spec)), given, progress)  # type: ignore[arg-type]
    assert seen == ["s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("a", "b", "d"), "only the model has c; only the data have d"),
        (("a", "b"), "only the model has c"),
        (("b", "a", "c"), "order differs: class 0 is 'a' and 'b'"),
    ],
)
def test_other_classes_are_refused_with_the_difference(classes: tuple[str, ...], words: str) -> None:
    model, data = Spec(classes=("a", "b", "c")), Spec(classes=classes)
    with pytest.raises(UsageError, match=words):
        evaluate(Predictor(Identity(model)), Samples([Sample("x", picture(np.eye(2)), np.eye(2))], data))


def test_bad_truth_is_named() -> None:
    spec = toy_spec(3)
    predict = Predictor(Identity(spec))
    image = picture(np.zeros((4, 5)))
    with pytest.raises(DataError, match=r"'odd': the mask is 5x4, its image 4x5"):
        evaluate(predict, Samples([Sample("odd", image, np.zeros((5, 4), np.uint8))], spec))
    with pytest.raises(DataError, match=r"'far'.*ids 9"):
        evaluate(predict, Samples([Sample("far", image, np.full((4, 5), 9, np.uint8))], spec))
    with pytest.raises(DataError, match="no samples"):
        evaluate(predict, Samples([], spec))
