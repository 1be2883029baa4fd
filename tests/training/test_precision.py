"""The choice of the dtype policy is made from times."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

from kseg.layers.policy import dtype_policy
from kseg.training import precision


class Clock:
    """Seconds that only `FakeModel` steps move on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeModel:
    def __init__(self, clock: Clock, times: list[float]) -> None:
        self.clock = clock
        self.times = itertools.cycle(times)

    def train_on_batch(self, images: object, masks: object) -> None:
        self.clock.now += next(self.times)


def choose(float32: list[float], reduced: list[float]) -> precision.Choice:
    clock = Clock()
    seconds = {"float32": float32, "mixed_bfloat16": reduced}

    def build(policy: str) -> FakeModel:
        return FakeModel(clock, seconds[policy])

    batch = (np.zeros((8, 4, 4, 3)), np.zeros((8, 4, 4)))
    return precision.choose(build, batch, seconds=10, policies=tuple(seconds), clock=clock)  # type: ignore[arg-type]


def test_the_faster_policy_wins_and_says_by_how_much() -> None:
    choice = choose([2.0], [1.0])
    assert choice.policy == "mixed_bfloat16"
    assert "float32 4.0" in choice.reason
    assert "mixed_bfloat16 8.0" in choice.reason


def test_float32_stays_when_the_gain_is_small() -> None:
    assert choose([1.0], [0.95]).policy == "float32"
    assert choose([1.0], [1.4]).policy == "float32"


def test_a_slow_moment_does_not_decide() -> None:
    assert choose([2.0], [1.0, 9.0]).policy == "mixed_bfloat16"


def test_policy_is_put_back_even_after_an_error() -> None:
    before = keras.config.dtype_policy().name
    with dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == before
    with pytest.raises(ZeroDivisionError), dtype_policy("mixed_bfloat16"):
        _ = 1 / 0
    assert keras.config.dtype_policy().name == before


def test_real_networks_are_timed_under_both_policies() -> None:
    built = []

    def build(policy: str) -> keras.Model:
        built.append(policy)
        with dtype_policy(policy):
            model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same")])
        model.compile("sgd", "mse", jit_compile=False)
        return model

    batch = (np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 8, 8, 4), "float32"))
    choice = precision.choose(build, batch, seconds=0.0, policies=("float32", "mixed_bfloat16"))
    assert built == ["float32", "mixed_bfloat16"]
    assert choice.policy in built
    assert "images/s" in choice.reason
