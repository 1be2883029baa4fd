"""Images far larger than those of the training are spoken of, once, with the remedy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fake_runtime import Identity, picture, toy_spec

from kseg.inference import Predictor


def said_of(size: tuple[int, int], runtime: Identity, **options) -> list[str]:
    lines: list[str] = []
    predictor = Predictor(runtime, say=lines.append, **options)
    for _ in range(2):
        predictor(picture(np.zeros(size, "uint8")))
    predictor.logits(picture(np.zeros(size, "uint8")))
    return lines


def recipe(size: object) -> dict:
    return {"resolved": {"image_size": size, "crop": [8, 8]}}


def test_said_once_with_sizes_and_remedy() -> None:
    runtime = Identity(toy_spec(input_size=(16, 20), recipe=recipe([16, 20])))
    (line,) = said_of((40, 60), runtime)
    assert "40x60 is 2.7 times the size that the network was trained at (16x20)" in line
    assert line.endswith("--resize fit --size 16x20 (resize='fit', size=(16, 20))")
    assert "\n" not in line


def test_an_artefact_of_fixed_size_is_told_the_rule_alone() -> None:
    runtime = Identity(toy_spec(input_size=(16, 20), recipe=recipe([16, 20])), (16, 20))
    (line,) = said_of((40, 60), runtime)
    assert line.endswith("--resize fit (resize='fit')")


@pytest.mark.parametrize(
    ("size", "trained", "rule"),
    [
        ((32, 40), [16, 20], "none"),  # exactly twice
        ((16, 70), [16, 20], "none"),  # a panorama: as high as ever
        ((40, 60), [16, 20], "fit"),
        ((40, 60), [16, 20], "stretch"),
        ((40, 60), [40, 60], "none"),  # trained in crops of large images
        ((40, 60), None, "none"),  # trained on crops around objects
    ],
)
def test_not_said_where_objects_look_as_in_training(size, trained, rule) -> None:
    runtime = Identity(toy_spec(input_size=(16, 20), recipe=recipe(trained), resize=rule))
    assert said_of(size, runtime) == []


def test_without_a_recipe_the_input_size_counts_and_without_both_nothing() -> None:
    assert len(said_of((40, 60), Identity(toy_spec(input_size=(16, 20))))) == 1
    assert said_of((40, 60), Identity(toy_spec())) == []


def test_python_callers_get_a_warning() -> None:
    predictor = Predictor(Identity(toy_spec(input_size=(16, 20))))
    with pytest.warns(UserWarning, match="--resize fit"):
        predictor(picture(np.zeros((40, 60), "uint8")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor(picture(np.zeros((40, 60), "uint8")))
