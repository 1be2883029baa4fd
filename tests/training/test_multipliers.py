"""Learning rates of single variables, and layers that are held still."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.training.multipliers import freeze, multipliers, with_multipliers


def toy() -> keras.Model:
    keras.utils.set_random_seed(2)
    image = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="first")(image)
    return keras.Model(image, keras.layers.Dense(2, name="second")(hidden))


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW])
def test_a_multiplied_variable_takes_a_step_of_that_many_times_the_length(kind: type) -> None:
    steps = []
    for rules in ({}, {"bias$": 2.0, "first": 0.5}):
        model = toy()
        before = model.get_weights()
        factors = multipliers(rules, model.trainable_variables)
        optimizer = with_multipliers(kind, factors)(0.01, weight_decay=0.0)
        model.compile(optimizer, "mse")
        model.train_on_batch(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"))
        steps.append([new - old for new, old in zip(model.get_weights(), before, strict=True)])
    for plain, multiplied, factor in zip(*steps, (0.5, 2, 1, 2), strict=True):
        np.testing.assert_allclose(multiplied, plain * factor, rtol=2e-3, atol=1e-7)
        assert np.abs(plain).max() > 0


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"third": 2.0}, "names no trainable variable"),
        ({"(": 2.0}, "no regular expression"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        multipliers(rules, toy().trainable_variables)


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.AdamW])
@pytest.mark.parametrize("factor", [0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_multiplier_of_zero_is_refused_as_decay_would_go_on(kind: type, factor: float) -> None:
    with pytest.raises(UsageError, match=r"positive number.*`freeze`"):
        with_multipliers(kind, {"first/kernel": factor})
    with pytest.raises(UsageError, match=r"positive number.*`freeze`"):
        multipliers({"first": factor}, toy().trainable_variables)


def test_freezing_holds_still_what_decay_and_statistics_would_move() -> None:
    image = keras.Input((3,))
    x = keras.layers.BatchNormalization(name="first_bn")(keras.layers.Dense(4, name="first")(image))
    model = keras.Model(image, keras.layers.Dense(2, name="second")(x))
    freeze(model, "^first")
    before = model.get_weights()
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), "mse")
    model.train_on_batch(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"))
    after = model.get_weights()
    for old, new in zip(before[:6], after[:6], strict=True):
        np.testing.assert_array_equal(new, old)
    assert not np.array_equal(after[6], before[6])


def test_frozen_layers_are_not_trained() -> None:
    model = toy()
    assert freeze(model, "^first") == ["first"]
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"))
    after = model.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    assert not np.array_equal(after[2], before[2])


@pytest.mark.parametrize(("rule", "message"), [("third", "no layer with weights"), ("", "nothing to train")])
def test_freezing_nothing_or_everything_is_refused(rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        freeze(toy(), rule)
