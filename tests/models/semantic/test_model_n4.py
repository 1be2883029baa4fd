"""N4 through the battery; the sheet's counts; its three evaluators agree."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery

from kseg.models import N4, forms
from kseg.models.summary import parameters, shapes_only
from kseg.semantic.inference.patch_by_patch import sliding_window


class TestN4(ModelBattery):
    architecture = "N4"
    toy: ClassVar = {"width": 0.17, "output_stride": 4}
    steps = 30


def test_sheet_counts() -> None:
    with shapes_only():
        model = N4(input_shape=(None, None, 1), num_classes=2)
    assert parameters(model) == (219_290, 219_290)
    assert forms.patch_form(model).size == 95
    shapes, x = [], keras.Input((95, 95, 1))
    for layer in forms.patch_form(model).model.layers[1:]:
        x = layer(x)
        shapes.append(x.shape[1:])
    assert shapes == [
        *[(92, 92, 48), (46, 46, 48), (42, 42, 48), (21, 21, 48), (18, 18, 48), (9, 9, 48)],
        *[(6, 6, 48), (3, 3, 48), (1, 1, 200), (1, 1, 2)],
    ]


@pytest.mark.parametrize("evaluator", ["dilated", "stitch"])
def test_dense_forms_give_the_answers_of_the_windows(evaluator: str) -> None:
    image = np.random.default_rng(0).normal(size=(1, 21, 33, 1)).astype("float32")
    model = N4(input_shape=(None, None, 1), num_classes=2, width=0.17, evaluator=evaluator)
    pixels = [(0, 0), (20, 32), (3, 17), (10, 31), (19, 5)]
    naive = sliding_window(forms.patch_form(model), image[0], pixels=pixels)
    dense = np.asarray(model(image))[0]
    assert dense.shape == (21, 33, 2)
    np.testing.assert_allclose([dense[y, x] for y, x in pixels], naive, atol=1e-5)


def test_full_width_agrees_to_1e_5_of_its_largest_logit() -> None:
    image = np.random.default_rng(0).normal(size=(1, 17, 18, 1)).astype("float32")
    dilated, stitched = (
        N4(input_shape=(None, None, 1), num_classes=2, evaluator=name) for name in ("dilated", "stitch")
    )
    stitched.set_weights(dilated.get_weights())
    pixels = [(0, 0), (16, 17), (8, 3)]
    naive = sliding_window(forms.patch_form(dilated), image[0], pixels=pixels)
    dense = np.asarray(dilated(image))[0]
    largest = np.abs(dense).max()
    np.testing.assert_allclose(np.asarray(stitched(image))[0], dense, atol=1e-5 * largest)
    np.testing.assert_allclose([dense[y, x] for y, x in pixels], naive, atol=1e-5 * largest)
