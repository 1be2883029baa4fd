"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.training import schedules
from kseg.training.optimizers import SCHEDULES


def rates(schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> np.ndarray:
    return np.array([float(keras.ops.convert_to_numpy(schedule(step))) for step in range(steps)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_grows_linearly_to_the_peak(name: str) -> None:
    values = rates(getattr(schedules, SCHEDULES[name])(0.2, total_steps=20, warmup_steps=4), 20)
    np.testing.assert_allclose(values[:4], [0.05, 0.1, 0.15, 0.2], rtol=1e-6)
    assert values.max() == pytest.approx(0.2)


def test_decay_follows_the_formulas() -> None:
    progress = (np.arange(5, 25) - 5) / 20
    cosine = rates(schedules.WarmUpCosine(0.1, 25, 5), 25)[5:]
    np.testing.assert_allclose(cosine, 0.05 * (1 + np.cos(math.pi * progress)), rtol=1e-5)
    poly = rates(schedules.WarmUpPolynomial(0.1, 25, 5, power=0.9), 25)[5:]
    np.testing.assert_allclose(poly, 0.1 * (1 - progress) ** 0.9, rtol=1e-5)
    constant = rates(schedules.WarmUpConstant(0.1, 25, 5), 25)[5:]
    np.testing.assert_allclose(constant, 0.1, rtol=1e-6)


def test_no_step_goes_below_the_end_or_beyond_the_run() -> None:
    values = rates(schedules.WarmUpCosine(0.1, 10, 0, end=0.1), 30)
    np.testing.assert_allclose(values[10:], 0.01, rtol=1e-5)
    assert values.min() >= 0.01 - 1e-8


def test_a_schedule_survives_serialisation() -> None:
    for name in SCHEDULES.values():
        schedule = getattr(schedules, name)(0.3, total_steps=12, warmup_steps=3)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
        np.testing.assert_array_equal(rates(schedule, 12), rates(copy, 12))


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="warmup_steps < total_steps"):
        schedules.WarmUpCosine(0.1, total_steps=5, warmup_steps=5)
