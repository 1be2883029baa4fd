"""A network with its losses inside its graph, and a task with options and a command: the whole road."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from kseg import tasks
from kseg.cli.main import main
from kseg.models import registry
from kseg.saving import load
from kseg.training import TrainConfig, train

DATA = "sample:nuclei"


@pytest.fixture(scope="module", autouse=True)
def task() -> Iterator[None]:
    """The task's module, imported; afterwards no other test sees its row and its network."""
    tables = (tasks._ROWS, registry._ENTRIES, registry._KEYS)
    before: list[dict[str, Any]] = [dict(table) for table in tables]
    importlib.import_module("object_colors")
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    del sys.modules["object_colors"], sys.modules["mean_color"]


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


def test_options_and_commands_of_the_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run / "model.keras"), "--data", DATA]
    assert main([*words, "--answers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {"size": [48, 48], "answers": 1}
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["closeness"] > found["closeness"]
    assert main([*words, "--answers", "2"]) == 0
    assert "the first 2 answers" in capsys.readouterr().out
    assert main([*words, "--answers", "9"]) == 2
    assert "there are 4 answers" in capsys.readouterr().err
    assert main([*words, "--refine", "superpixels"]) == 2
    assert "has no --refine" in capsys.readouterr().err
    assert main(["count-colors", "--answers", "3"]) == 0
    assert "3 colours" in capsys.readouterr().out


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
