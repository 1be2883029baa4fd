"""A network whose losses lie inside its graph, where its answers are matched with the truth: the whole road.

Toy: four colours per image, in no order; the truth is the mean colour of each object, of which images have
any number. Each true colour is matched with the nearest answer.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import mean_color
import numpy as np
import pytest
from keras import ops

from kseg import tasks
from kseg.cli.main import main
from kseg.models import forms, registry
from kseg.saving import load
from kseg.training import TrainConfig, train

NAME = "object-colors"
ANSWERS, MOST = 4, 40
DATA = "sample:nuclei"


class Matched(keras.layers.Layer):
    """Squared distance of each true colour `(B, M, 3)` to the nearest answer `(B, N, 3)`: mean per image."""

    def call(self, answers: Any, truth: Any, real: Any) -> Any:
        distances = ops.sum((ops.cast(answers, "float32")[:, None] - truth[:, :, None]) ** 2, -1)
        return ops.sum(ops.min(distances, -1) * real, -1) / ops.maximum(ops.sum(real, -1), 1)


class Spread(keras.layers.Layer):
    """A second loss: answers `(B, N, 3)` shall not be far from grey."""

    def call(self, answers: Any) -> Any:
        return ops.mean((ops.cast(answers, "float32") - 0.5) ** 2, (1, 2))


def ObjectColorNet(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 2,
    name: str | None = None,
) -> keras.Model:
    """Toy: four colours."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    colors = keras.layers.Reshape((ANSWERS, 3), name="colors")(keras.layers.Dense(3 * ANSWERS)(x))
    model = keras.Model(image, {"colors": colors}, name=name or "object_color_net")

    def losses() -> forms.LossForm:
        truth, real = keras.Input((MOST, 3), name="true_colors"), keras.Input((MOST,), name="real")
        found = {
            "matched": Matched(dtype="float32")(colors, truth, real),
            "grey": Spread(dtype="float32")(colors),
        }
        inputs = {"image": image, "true_colors": truth, "real": real}
        return forms.LossForm(keras.Model(inputs, found), weights={"grey": 0.01})

    return forms.attach(model, losses=losses)


def encode(sample: Any) -> dict[str, np.ndarray]:
    """The mean colours of the first objects, and which rows are real."""
    colors, real = np.zeros((MOST, 3), np.float32), np.zeros(MOST, np.float32)
    for row, instance in enumerate(sample.instances.ids()[:MOST]):
        colors[row] = sample.image[sample.instances.mask(instance)].mean(0) / 255
        real[row] = 1
    return {"true_colors": colors, "real": real}


class Goal(mean_color.Goal):
    """Its losses are inside the network: neither loss nor metrics are asked for."""

    encode = staticmethod(encode)

    def loss(self, settled: Any, head: Any = None) -> Any:
        raise AssertionError("the losses are inside")

    def metrics(self, settled: Any) -> Any:
        raise AssertionError("the scorer scores")


class Scorer(mean_color.Scorer):
    """One minus the distance to the nearest answer, per channel."""

    def add(self, sample: Any, prediction: np.ndarray) -> None:
        truth = encode(sample)
        for color in truth["true_colors"][truth["real"] > 0]:
            far = np.abs(prediction - color)
            self.errors.append(far[far.sum(1).argmin()])


class Predictor(mean_color.Predictor):
    """Four colours."""

    def decide(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.clip(outputs["colors"], 0, 1)


def outputs(spec: Any, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {"colors": (ANSWERS, 3)}


def scorer(spec: Any, samples: Any) -> tuple[Scorer, Any]:
    return Scorer(), samples


HERE = "test_losses_inside"
PARTS = {part: f"{HERE}:{name}" for part, name in (
    ("outputs", "outputs"), ("scorer", "scorer"), ("predictor", "Predictor"), ("training", "Goal"),
)}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def task() -> Iterator[None]:
    """The row and the network; afterwards no other test sees them."""
    rows, entries, keys = dict(tasks._ROWS), dict(registry._ENTRIES), dict(registry._KEYS)
    sys.modules.setdefault(HERE, sys.modules[__name__])
    tasks.register(tasks.Task(**{**vars(mean_color.TASK), **PARTS, "name": NAME}))
    registry.register(paper="none: a toy", output_stride=1, task=NAME)(ObjectColorNet)
    yield
    for table, before in ((tasks._ROWS, rows), (registry._ENTRIES, entries), (registry._KEYS, keys)):
        table.clear()
        table.update(before)


def config(out: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "model": "objectcolornet", "data": DATA, "size": (48, 48), "resize": "stretch", "batch_size": 8,
        "learning_rate": 0.03, "precision": "float32", "epochs": 12, "val_every": 6, "ema": 0.5,
    }  # fmt: skip
    return TrainConfig(out=str(out), **{**values, **changes})


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inside") / "run"
    train(config(folder), lambda line: None)
    return folder


def test_each_loss_is_recorded_and_weighed(run: Path) -> None:
    rows = rows_of(run)
    for row in rows:
        parts = float(row["matched_loss"]) + 0.01 * float(row["grey_loss"])
        assert float(row["loss"]) == pytest.approx(parts, rel=0.05)
    assert float(rows[-1]["matched_loss"]) < 0.5 * float(rows[0]["matched_loss"])
    assert [bool(row["val_matched_loss"]) for row in rows] == [n in (6, 12) for n in range(1, 13)]
    assert float(rows[-1]["val_loss"]) > 0


def test_the_scorer_s_headline_chooses_the_model_and_evaluate_prints_the_same(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = max(float(row["val_closeness"]) for row in rows_of(run) if row["val_closeness"])
    assert best > 0.8
    assert main(["evaluate", str(run / "model.keras"), "--data", DATA, "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["closeness"] == pytest.approx(best, abs=1e-5)


def test_the_saved_network_has_no_losses(run: Path) -> None:
    model = load(run / "model.keras")
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert list(model.output) == ["colors"]


def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    short = {"epochs": 2, "val_every": 1, "limit": 8, "val_limit": 2}
    train(config(tmp_path / "whole", **short), lambda line: None)

    def stop(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "parts", **short), stop)
    train(config(tmp_path / "parts", **short, resume=True), lambda line: None)
    shown = ("loss", "matched_loss", "val_loss", "val_closeness")
    whole, parts = (
        [[row[name] for name in shown] for row in rows_of(tmp_path / run)] for run in ("whole", "parts")
    )
    assert whole == parts
    pairs = zip(*(load(tmp_path / run / "model.keras").weights for run in ("whole", "parts")), strict=True)
    assert all(np.array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other)) for one, other in pairs)


def test_precision_and_batch_size_are_tried_and_statistics_measured_again(tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "run"
    result = train(
        config(out, precision="mixed_bfloat16", batch_size="auto", bn_batches=2, epochs=3), said.append
    )
    assert any("batch normalisation over 2 batches: val closeness" in line for line in said)
    assert 0 < result["val_closeness"] <= 1


def test_its_artefact_agrees(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(run / "model.keras"), str(run / "m.onnx")
    assert main(["export", model, "--to", "onnx", "--data", DATA, "--out", out]) == 0
