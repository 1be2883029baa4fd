"""The range test: a rate that trains, and a model that is left as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from test_train import make_folder

from kseg.cli.main import main
from kseg.errors import KsegError, UsageError
from kseg.training import WarmUpCosine, find_learning_rate


def toy(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.2, seed=1)(x)))
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def batches(count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(16, 4)).astype("float32") for _ in range(count)]
    return [(x, x.sum(axis=1, keepdims=True)) for x in drawn]


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.SGD(1e-5, momentum=0.9),
        lambda: keras.optimizers.AdamW(WarmUpCosine(1e-5, 50), weight_decay=0.1),
    ],
)
def test_the_suggested_rate_trains_and_the_model_is_as_it_was(make) -> None:
    model = toy(make())
    model.fit(*batches()[0], verbose=0)
    optimizer = model.optimizer
    before = [np.array(variable) for variable in (*model.variables, *optimizer.variables)]
    found = find_learning_rate(model, batches())
    assert model.optimizer is optimizer
    for old, variable in zip(before, (*model.variables, *optimizer.variables), strict=True):
        np.testing.assert_array_equal(np.array(variable), old, err_msg=variable.path)
    assert found.rates[0] == pytest.approx(1e-6)
    assert all(a < b for a, b in zip(found.rates, found.rates[1:], strict=False))
    assert found.suggestion == pytest.approx(found.lowest / 10)
    assert 1e-4 < found.suggestion < 1
    # The model goes on training with its own optimiser, and the suggested rate is one that learns.
    step = int(optimizer.iterations)
    start = model.fit(*batches()[1], verbose=0).history["loss"][0]
    assert int(optimizer.iterations) == step + 1
    model.compile(keras.optimizers.SGD(min(found.suggestion, 0.1), momentum=0.9), "mse")
    assert model.fit(*batches()[1], epochs=60, verbose=0).history["loss"][-1] < 0.7 * start


def test_it_ends_early_when_the_loss_breaks_away() -> None:
    found = find_learning_rate(toy(keras.optimizers.SGD(0.1)), batches(), high=1e6, steps=200)
    assert len(found.losses) < 200
    assert all(math.isfinite(loss) for loss in found.losses)


def test_what_cannot_be_tested_is_refused() -> None:
    model = toy(keras.optimizers.SGD(0.1))
    for wrong in ({"low": 1.0, "high": 0.1}, {"steps": 3}, {"high": math.nan}, {"low": 0}):
        with pytest.raises(UsageError, match="needs 0 < low < high"):
            find_learning_rate(model, batches(), **wrong)
    with pytest.raises(UsageError, match="no batch"):
        find_learning_rate(model, [])
    with pytest.raises(UsageError, match="compiled"):
        find_learning_rate(keras.Model(model.input, model.output), batches())
    constant = [(x, np.zeros_like(y)) for x, y in batches()]
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    with pytest.raises(KsegError, match="No learning rate from"):
        find_learning_rate(model, constant)


def test_the_command_prints_a_rate_and_writes_picture_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    data = make_folder(tmp_path / "data", {"train": 8, "val": 2})
    out = tmp_path / "lr"
    words = ["find-lr", "--model", "unet", "--data", str(data), "--out", str(out), "--steps", "40"]
    words += ["--model-args", '{"width": 0.0625, "depth": 1}', "--batch-size", "4"]
    assert main(words) == 0
    found = json.loads((out / "find_lr.json").read_text())
    printed = " ".join(capsys.readouterr().out.split())
    assert f"suggested learning rate {found['suggestion']:.2g}" in printed
    assert 1e-5 < found["suggestion"] < 1
    assert len(found["rates"]) == len(found["losses"]) <= 40
    with Image.open(out / "find_lr.png") as picture:
        assert picture.size[0] > 400
    assert sorted(path.name for path in out.iterdir()) == ["find_lr.json", "find_lr.png"]
    assert main([*words, "--low", "nan"]) == 2
    assert "needs 0 < low < high" in " ".join(capsys.readouterr().err.split())
