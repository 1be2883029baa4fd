"""TextonBoost through the battery, its parameter counts, and its steps in one graph."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from battery import ModelBattery, batch, four_samples

from kseg.errors import UsageError
from kseg.models import TextonBoost, create
from kseg.models.summary import shapes_only

TOY: dict[str, Any] = {
    "textons": 16,
    "rectangles": 8,
    "features": 64,
    "grid": 4,
    "texton_stride": 2,
    "largest": 48,
}


class TestTextonBoost(ModelBattery):
    architecture = "TextonBoost"
    toy: ClassVar = TOY
    rate = 3e-2
    steps = 30


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_parameters_of_the_sheet() -> None:
    with shapes_only():
        linear = TextonBoost(head="linear")
        assert trainable(linear) == 5000 * 21 + 21 == 105_021
        assert trainable(TextonBoost(head="stumps")) == 105_021 + 5000
        assert trainable(TextonBoost(head="linear", learn_textons=True)) == 105_021 + 6800
        assert trainable(TextonBoost(head="mlp", hidden=32)) == 5000 * 32 + 32 + 32 * 21 + 21
        assert linear.get_layer("texture_layout").output.shape[-1] == 5000


def test_parameters_do_not_depend_on_the_size_of_the_image() -> None:
    shapes = []
    for size in ((None, None), (40, 60), (213, 320)):
        with shapes_only():
            model = TextonBoost((*size, 3), num_classes=3, **TOY)
            shapes.append([(weight.path.split("/", 1)[1], tuple(weight.shape)) for weight in model.weights])
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_same_seed_gives_the_same_features_and_another_one_others() -> None:
    layouts = [
        create("textonboost", num_classes=3, **TOY, seed=seed).get_layer("texture_layout")
        for seed in (3, 3, 4)
    ]
    same, again, other = [(layout.rectangles.tolist(), layout.pairs) for layout in layouts]
    assert same == again
    assert same[0] != other[0]


def test_an_image_smaller_than_a_filter_has_logits() -> None:
    model = TextonBoost(num_classes=3, **TOY)
    logits = np.asarray(model(np.random.default_rng(0).uniform(-1, 1, (1, 3, 5, 3)).astype("float32")))
    assert logits.shape == (1, 3, 5, 3)
    assert np.isfinite(logits).all()


def test_known_and_unknown_sizes_agree_in_training_and_inference() -> None:
    images = batch(four_samples(27, 42))[0]
    anysize = TextonBoost(num_classes=3, head="linear", **TOY)
    fixed = TextonBoost((27, 42, 3), num_classes=3, head="linear", **TOY)
    fixed.set_weights(anysize.get_weights())
    for training in (False, True):
        open_graph = keras.Model(anysize.input, anysize.get_layer("texture_layout").output)
        closed = keras.Model(fixed.input, fixed.get_layer("texture_layout").output)
        found = np.asarray(open_graph(images, training=training))
        assert found.shape == (4, 7, 11, 64)
        np.testing.assert_allclose(found, np.asarray(closed(images, training=training)), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "stump"}, r"`head` must be one of .* Did you mean 'stumps'"),
        ({"grid": 5, "texton_stride": 2}, r"multiple of `texton_stride`.*grid=5, texton_stride=2"),
        ({"features": 65}, r"multiple of `rectangles`.*Near: features=64"),
        ({"features": 512}, r"= 64 textons for each rectangle. Received: 16 textons"),
        ({"hidden": 0}, r"`hidden` must be a positive integer"),
        ({"largest": 3}, r"smallest <= largest"),
        ({"seed": -1}, r"`seed` must be an integer >= 0"),
        ({"seed": "x"}, r"`seed` must be"),
        ({"quirks": "no"}, r"`quirks` must be true or false"),
        ({"learn_textons": "false"}, r"`learn_textons` must be true or false"),
        ({"name": 5}, r"`name` must be a text"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TextonBoost(num_classes=3, **{**TOY, **arguments})


def test_too_many_textons_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(UsageError, match="TextonBoost with these arguments has more than"):
        create("TextonBoost", num_classes=3, textons=10**9, rectangles=4, features=12)
