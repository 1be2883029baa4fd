"""The proof of the design: a task that no file of kseg knows goes the whole road, by the same commands."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import deploy
from deploy.metadata import read_spec
from kseg import tasks
from kseg.cli.main import main
from kseg.models import registry

DATA = "sample:nuclei"


@pytest.fixture(scope="module", autouse=True)
def mean_color() -> Iterator[ModuleType]:
    """The task's module, imported; afterwards no other test sees its row and its network."""
    module = importlib.import_module("mean_color")
    yield module
    del tasks._ROWS[module.NAME], registry._ENTRIES["MeanColorNet"], registry._KEYS["meancolornet"]
    del sys.modules["mean_color"]


@pytest.fixture(scope="module")
def run(mean_color: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third") / "run"
    words = (
        "train --model meancolornet --size 48x48 --resize stretch --epochs 20 --batch-size 8 --val-every 10"
    )
    words += " --learning-rate 0.05 --precision float32 --seed 0"
    assert main([*words.split(), "--data", DATA, "--out", str(folder)]) == 0
    return folder


def test_training_keeps_the_best_by_the_task_s_score(run: Path) -> None:
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = max(float(row["val_closeness"]) for row in rows if row["val_closeness"])
    result = json.loads((run / "run.json").read_text())["result"]
    assert result["val_closeness"] == pytest.approx(best)
    assert best > 0.9
    spec = read_spec(run / "model.keras")
    assert (spec.task, spec.architecture) == ("mean-color", "MeanColorNet")


def test_evaluate_prints_what_the_row_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(run / "model.keras")
    assert main(["evaluate", model, "--data", DATA, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["closeness"] > 0.9
    assert "miou" not in found
    assert main(["evaluate", model, "--data", DATA]) == 0
    said = capsys.readouterr().out
    assert "blue" in said
    assert "IoU" not in said
    assert main(["evaluate", model, "--data", DATA, "--min-score", "99.99"]) == 1
    missed = capsys.readouterr().err
    assert "closeness of the mean colour is" in missed
    assert "; --min-score asks for 99.99" in missed
    assert main(["evaluate", model, "--data", DATA, "--flip"]) == 2
    assert "'mean-color' has no --flip" in capsys.readouterr().err


def test_predict_writes_its_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kseg.data.sources.embedded import SAMPLES

    images = str(SAMPLES / "nuclei" / "images" / "val")
    assert main(["predict", str(run / "model.keras"), images, "--out", str(tmp_path), "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["images"][0]
    assert len(entry["color"]) == 3
    assert Path(entry["swatch"]).is_file()
    assert main(["predict", str(run / "model.keras"), images, "--out", str(tmp_path), "--write", "mask"]) == 2


@pytest.mark.parametrize(
    ("target", "precision"), [("m.tflite", "float32"), ("m.onnx", "float32"), ("m8.tflite", "int8")]
)
def test_artefacts_have_its_outputs_by_name(
    run: Path, target: str, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(run / "model.keras"), str(run / "exports" / target)
    words = [
        "export",
        model,
        "--to",
        "onnx" if target.endswith("onnx") else "tflite",
        "--precision",
        precision,
    ]
    assert main([*words, "--data", DATA, "--out", out, "--max-miou-drop", "5"]) == 0
    assert "closeness" in capsys.readouterr().out
    assert main(["verify", out, "--reference", model, "--data", DATA, "--max-miou-drop", "5", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["metric"] == "closeness"
    assert checked["closeness_reference"] > 0.9
    assert [row["class"] for row in checked["per_class"]] == ["red", "green", "blue"]
    runtime = deploy.load(out)
    found = runtime.outputs(np.zeros((2, 48, 48, 3), np.float32))
    assert {name: value.shape for name, value in found.items()} == {"color": (2, 3), "lightness": (2, 1)}
    runtime.close()
    assert main(["inspect", out]) == 0
    assert "same colour in" in capsys.readouterr().out


def test_the_report_shows_its_sections(run: Path) -> None:
    page, summary = deploy.report(run)
    text = page.read_text()
    assert "Colours of" in text
    assert "Closeness, %" in text
    assert "Confusion" not in text
    assert summary["scores"]["val"]["closeness"] > 0.9


def test_other_tasks_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--model", "meancolornet", "--data", DATA, "--size", "48", "--out", str(tmp_path / "r")]
    assert main([*words, "--class-weights", "inverse"]) == 2
    assert "'mean-color' has no argument `class_weights`" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_table(mean_color: ModuleType) -> None:
    assert tasks.find("mean-color") is mean_color.TASK
    with pytest.raises(ValueError, match="two tasks"):
        tasks.register(tasks.Task(**{**vars(mean_color.TASK), "label": "other"}))
    with pytest.raises(Exception, match=r"no task 'semantics'.*'semantic'"):
        tasks.find("semantics")
