"""The plain network of Pinheiro and Collobert through the battery, and the sheet's counts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from battery import ModelBattery

from kseg.errors import UsageError
from kseg.models import PinheiroCNN, forms
from kseg.models.summary import parameters, shapes_only
from kseg.semantic.inference.patch_by_patch import sliding_window


class TestPinheiroCNN(ModelBattery):
    architecture = "PinheiroCNN"
    toy: ClassVar = {"width": 0.5, "output_stride": 4}
    rate = 1e-2
    steps = 60


@pytest.mark.parametrize(("classes", "features", "count"), [(8, (25, 50), 33_633), (33, (50, 50), 108_883)])
def test_sheet_counts(classes: int, features: tuple[int, int], count: int) -> None:
    with shapes_only():
        model = PinheiroCNN(num_classes=classes, features=features)
    assert parameters(model) == (count, count)
    assert forms.patch_form(model).size == 133
    assert PinheiroCNN(width=0.1, output_stride=16).info.stride == 16


@pytest.mark.parametrize("evaluator", ["dilated", "stitch"])
def test_full_resolution_gives_the_answers_of_the_patches(evaluator: str) -> None:
    image = np.random.default_rng(0).normal(size=(1, 18, 25, 3)).astype("float32")
    model = PinheiroCNN(num_classes=3, features=(3, 4), evaluator=evaluator)
    pixels = [(0, 0), (17, 24), (9, 3), (2, 16)]
    naive = sliding_window(forms.patch_form(model), image[0], pixels=pixels)
    dense = np.asarray(model(image))[0]
    assert np.ptp(naive) > 0.05
    np.testing.assert_allclose([dense[y, x] for y, x in pixels], naive, atol=1e-5)


@pytest.mark.parametrize("features", [(25,), (25, 0), 25, (25, 2.5)])
def test_features_are_two_positive_integers(features) -> None:
    with pytest.raises(UsageError, match=r"`features` must be two positive integers\. Received: features="):
        PinheiroCNN(features=features)
