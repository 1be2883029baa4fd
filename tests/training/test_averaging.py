"""The averaged weights against a plain recurrence, and their place in `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kseg.errors import UsageError
from kseg.training import AverageWeights
from kseg.training.averaging import averaged_variables


def toy(learning_rate: float = 0.05) -> keras.Model:
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    return model


def arrays(rows: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 4)).astype("float32"), rng.normal(size=(rows, 2)).astype("float32")


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in averaged_variables(model)]


class Trace(keras.callbacks.Callback):
    """Keep the weights after every step and during every validation."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[np.ndarray]] = []
        self.tested: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.steps.append(weights(self.model))

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        self.tested.append(weights(self.model))


@pytest.mark.parametrize("every", [1, 3])
def test_average_is_the_recurrence_with_growing_momentum(every: int) -> None:
    keras.utils.set_random_seed(1)
    model = toy()
    expected = weights(model)
    average, trace = AverageWeights(0.9, every=every), Trace()
    model.fit(*arrays(), batch_size=4, epochs=1, verbose=0, callbacks=[trace, average])
    assert len(trace.steps) == 12
    for step, now in enumerate(trace.steps, start=1):
        if step % every == 0:
            momentum = min(0.9, (1 + step) / (10 + step)) ** every
            expected = [momentum * old + (1 - momentum) * new for old, new in zip(expected, now, strict=True)]
    for got, wanted in zip(average.state(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_validation_sees_the_average_and_training_goes_on_untouched() -> None:
    runs = []
    for validate in (True, False):
        keras.utils.set_random_seed(2)
        model, average, trace = toy(), AverageWeights(0.9, every=1), Trace()
        data = arrays()
        model.fit(
            *data,
            batch_size=4,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=arrays(4) if validate else None,
            callbacks=[average, trace],
        )
        runs.append((weights(model), average.state(), trace))
    (with_val, averaged, trace), (without, averaged_without, _) = runs
    for a, b in zip(with_val + averaged, without + averaged_without, strict=True):
        np.testing.assert_array_equal(a, b)
    for tested, mean in zip(trace.tested[-1], averaged, strict=True):
        np.testing.assert_array_equal(tested, mean)
    assert any(not np.array_equal(a, b) for a, b in zip(trace.tested[-1], with_val, strict=True))


@pytest.mark.parametrize("keep", [True, False])
def test_after_fit_the_network_holds_the_average_where_asked(keep: bool) -> None:
    model, average, trace = toy(), AverageWeights(0.9, every=1, keep=keep), Trace()
    data = arrays()
    model.fit(*data, batch_size=4, epochs=2, verbose=0, validation_data=arrays(4), callbacks=[average, trace])
    for held, mean, last in zip(weights(model), average.state(), trace.steps[-1], strict=True):
        np.testing.assert_array_equal(held, mean if keep else last)
    loss = model.evaluate(*arrays(4), verbose=0)
    averaged = toy()
    average.apply_to(averaged)
    assert (loss == pytest.approx(averaged.evaluate(*arrays(4), verbose=0), rel=1e-5)) is keep


def test_batch_statistics_are_averaged_too() -> None:
    model = toy()
    average = AverageWeights(0.9, every=1)
    model.fit(*arrays(), batch_size=4, epochs=2, verbose=0, callbacks=[average])
    names = [variable.name for variable in averaged_variables(model)]
    index = names.index("moving_mean")
    assert not np.allclose(average.state()[index], 0)
    assert not np.array_equal(average.state()[index], weights(model)[index])


def test_state_can_be_restored() -> None:
    model, average = toy(), AverageWeights(0.9, every=1)
    model.fit(*arrays(), batch_size=4, epochs=1, verbose=0, callbacks=[average])
    other = AverageWeights(0.9, every=1)
    other.restore(average.step, average.state())
    other.apply_to(model)
    for got, wanted in zip(weights(model), average.state(), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UsageError, match="momentum"):
        AverageWeights(1.0)
    with pytest.raises(UsageError, match="every"):
        AverageWeights(0.9, every=0)
    with pytest.raises(UsageError, match="no average yet"):
        AverageWeights(0.9).apply_to(toy())
