"""Callbacks on toy networks: stop on NaN, history, best model, patience, checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from kseg import tasks
from kseg.errors import ArtefactError, KsegError
from kseg.metrics import MeanIoU
from kseg.training import AverageWeights, StopOnNaN, TrainingDivergedError, checkpoint
from kseg.training.callbacks import PercentBar, Recorder
from kseg.training.config import TrainConfig
from kseg.training.optimizers import create_optimizer
from kseg.training.record import HISTORY

TASK = tasks.find("semantic")


def toy(optimizer: object = None, units: int = 3) -> keras.Model:
    inputs = keras.Input((4,))
    x = keras.layers.Dense(units, name="hidden")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(keras.layers.Dropout(0.5, seed=3)(x)))
    model.compile(optimizer or keras.optimizers.AdamW(0.01), "mse", jit_compile=False)
    return model


def batch(value: float = 1.0, rows: int = 8) -> tuple[np.ndarray, np.ndarray]:
    return np.full((rows, 4), value, "float32"), np.ones((rows, 1), "float32")


def recorder(run: Path, saved: list, **changes: object) -> Recorder:
    options = {
        "task": tasks.find("semantic"),
        "average": None,
        "validated": True,
        "patience": None,
        "images": 8,
        "say": None,
        **changes,
    }
    return Recorder(run, saved.append, **options)  # type: ignore[arg-type]


def feed(target: Recorder, model: keras.Model, scores: list[float | None]) -> None:
    """Run the callback over epochs with these validation scores."""
    target.set_model(model)
    target.set_params({"epochs": len(scores)})
    model.optimizer.build(model.trainable_variables)
    for epoch, score in enumerate(scores, start=target.epochs_done):
        target.on_epoch_begin(epoch)
        target.on_train_batch_end(0)
        target.on_epoch_end(epoch, {"loss": 1.0} if score is None else {"loss": 1.0, "val_miou": score})
        if model.stop_training:
            break


def test_nan_stops_with_loss_epoch_step_rate_and_advice() -> None:
    images, targets = batch(rows=12)
    images[8:] = np.nan
    with pytest.raises(TrainingDivergedError) as caught:
        toy().fit(
            images, targets, batch_size=4, shuffle=False, verbose=0, callbacks=[StopOnNaN("cross_entropy")]
        )
    message = str(caught.value)
    for part in (
        "(cross_entropy) became nan",
        "epoch 1, step 3 of 3",
        "learning rate 0.01",
        "--learning-rate",
    ):
        assert part in message
    assert isinstance(caught.value, KsegError)
    assert caught.value.exit_code == 1


def test_best_model_is_saved_when_the_score_rises(tmp_path: Path) -> None:
    saved: list = []
    target = recorder(tmp_path, saved)
    feed(target, toy(), [0.2, None, 0.5, 0.4, 0.5, 0.6])
    assert [row["epoch"] for row in saved] == [1, 3, 6]
    assert target.best is not None
    assert target.best["val_miou"] == 0.6


def test_without_validation_the_latest_is_kept(tmp_path: Path) -> None:
    saved: list = []
    feed(recorder(tmp_path, saved, validated=False), toy(), [None, None])
    assert [row["epoch"] for row in saved] == [1, 2]


def test_patience_counts_epochs_behind_the_best_and_survives_resuming(tmp_path: Path) -> None:
    model = toy()
    first = recorder(tmp_path, [], patience=3)
    feed(first, model, [0.5, 0.4, 0.4])
    assert not first.exhausted
    second = recorder(tmp_path, [], patience=3)
    stored = checkpoint.load(tmp_path)
    assert stored is not None
    second.restore(stored[0], [])
    feed(second, toy(), [0.3, 0.9])
    assert second.epochs_done == 4
    assert second.exhausted


def test_epochs_that_were_not_validated_do_not_use_up_patience(tmp_path: Path) -> None:
    target = recorder(tmp_path, [], patience=1)
    feed(target, toy(), [None, 0.5, None, 0.6, None, 0.4, None])
    assert target.epochs_done == 6


def test_history_has_a_line_per_epoch_and_empty_cells_where_not_validated(tmp_path: Path) -> None:
    lines: list[str] = []
    feed(recorder(tmp_path, [], say=lines.append), toy(), [None, 0.25])
    with open(tmp_path / HISTORY, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["val_miou"] for row in rows] == ["", "0.25"]
    assert float(rows[1]["val_miou"]) == 0.25, "files keep the scale of Keras' metrics"
    assert float(rows[1]["total_seconds"]) >= float(rows[0]["total_seconds"])
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.01)
    assert lines[1].startswith("epoch 2/2  loss 1.0000  val_mIoU 25.00 % (best)")


def test_the_progress_bar_of_a_terminal_shows_per_cent(capsys: pytest.CaptureFixture[str]) -> None:
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    score = MeanIoU(num_classes=2, name="miou")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=[score])
    images, masks = np.ones((2, 4, 4, 3), "float32"), np.zeros((2, 4, 4), "int32")
    history = model.fit(
        images,
        masks,
        validation_data=(images, masks),
        callbacks=[PercentBar(TASK)],
        verbose=1,
    )
    printed = capsys.readouterr().out
    for name, key in (("mIoU %", "miou"), ("val_mIoU %", "val_miou")):
        assert f" {name}: {100 * history.history[key][-1]:.4f}" in printed
    assert "miou:" not in printed


def test_checkpoint_restores_weights_optimizer_dropout_seed_and_average(tmp_path: Path) -> None:
    model, average = toy(), AverageWeights(0.9, every=1)
    model.fit(*batch(), batch_size=4, epochs=2, verbose=0, callbacks=[average])
    row = {"epoch": 1, "total_seconds": 2.0, "images_per_second": 3.5}
    checkpoint.save(tmp_path, model, average.state(), {"rows": [row], "best": row, "step": 2})
    other = toy()
    stored = checkpoint.load(tmp_path)
    assert stored is not None
    meta, arrays = stored
    averages = checkpoint.restore(other, arrays)
    assert meta == checkpoint.Meta(rows=[row], best=row, step=2)
    for a, b in zip(
        [*model.variables, *model.optimizer.variables],
        [*other.variables, *other.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
    for a, b in zip(averages, average.state(), strict=True):
        np.testing.assert_array_equal(a, b)
    seeds = [np.array(v) for v in other.variables if "seed" in v.path]
    assert seeds
    assert seeds[0][1] > 0, "the dropout seed must have moved on"


def test_checkpoint_of_another_network_or_damaged_is_refused(tmp_path: Path) -> None:
    model = toy()
    model.optimizer.build(model.trainable_variables)
    row = {"epoch": 1, "total_seconds": 2.0, "images_per_second": 3.5}
    checkpoint.save(tmp_path, model, [], {"rows": [row], "best": None, "step": 0})
    stored = checkpoint.load(tmp_path)
    assert stored is not None
    with pytest.raises(ArtefactError, match="do not fit"):
        checkpoint.restore(toy(units=5), stored[1])
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtefactError, match="cannot be read"):
        checkpoint.load(tmp_path)
    assert checkpoint.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weight_decay_leaves_biases_and_normalisation_alone(name: str) -> None:
    config = TrainConfig(
        model="m", data="d", out="o", optimizer=name, weight_decay=0.5, learning_rate=0.1, schedule="constant"
    )
    model = toy()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer = create_optimizer(config, 10, model.trainable_variables)
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        decayed = not np.array_equal(keras.ops.convert_to_numpy(variable), np.ones(variable.shape))
        assert decayed == (variable.name == "kernel"), variable.path
