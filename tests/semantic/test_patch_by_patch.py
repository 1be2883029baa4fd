"""The naive evaluator: one patch per pixel, borders mirrored, and its errors."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.models.forms import PatchForm
from kseg.semantic.inference.patch_by_patch import sliding_window


@pytest.fixture
def mean_form() -> PatchForm:
    """The mean over 4 x 4 patches, and the sum over channels as a head."""
    patch = keras.Input((4, 4, 2))
    mean = keras.layers.AveragePooling2D(4)(patch)
    return PatchForm(keras.Model(patch, {"logits": mean, "sum": keras.ops.sum(mean, -1, keepdims=True)}), 4)


@pytest.mark.parametrize("size", [(6, 5), (2, 9), (1, 1)])
def test_every_pixel_gets_the_answer_of_its_mirrored_patch(mean_form: PatchForm, size) -> None:
    image = np.random.default_rng(0).normal(size=(*size, 2)).astype("float32")
    found = sliding_window(mean_form, image, batch_size=7)
    padded = np.pad(image, ((1, 2), (1, 2), (0, 0)), mode="reflect")
    expected = [[padded[y : y + 4, x : x + 4].mean((0, 1)) for x in range(size[1])] for y in range(size[0])]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        sliding_window(mean_form, image, head="sum"), np.sum(expected, -1, keepdims=True), atol=1e-6
    )


def test_chosen_pixels_only(mean_form: PatchForm) -> None:
    image = np.random.default_rng(1).normal(size=(5, 6, 2)).astype("float32")
    pixels = [(4, 0), (2, 5), (0, 3)]
    whole = sliding_window(mean_form, image)
    found = sliding_window(mean_form, image, pixels=pixels)
    np.testing.assert_allclose(found, [whole[y, x] for y, x in pixels], atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": np.zeros((5, 5), "float32")}, r"\(height, width, channels\).*\(5, 5\)"),
        ({"image": np.zeros((0, 5, 2), "float32")}, r"\(0, 5, 2\)"),
        ({"pixels": [(5, 0)]}, "inside 5 x 6"),
        ({"pixels": [(0, -1)]}, "inside 5 x 6"),
        ({"pixels": []}, "inside 5 x 6"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"head": "instance1"}, "`head` must be one of logits, sum"),
    ],
)
def test_wrong_arguments_are_named(mean_form: PatchForm, wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sliding_window(mean_form, **{"image": np.zeros((5, 6, 2), "float32"), **wrong})
