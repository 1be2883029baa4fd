"""Files and a run that were written before the rebuild of version 0.2 mean today what they meant then.

`tests/fixtures/v0_1` holds them: networks trained for seconds on the embedded sample, their exports, a run
that was interrupted after two of three epochs, and the logits that each gave for one image.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import kseg
from deploy.metadata import read_spec
from kseg.cli.main import main

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "v0_1"
# int8 kernels of another processor may round a step of the quantised output otherwise.
FILES = {
    "unet.keras": 1e-4,
    "fcn8s_two_heads.keras": 1e-4,
    "unet.tflite": 1e-4,
    "unet_int8.tflite": 0.05,
    "unet.onnx": 1e-4,
}


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(OLD / "logits.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("name", "most"), FILES.items())
def test_answers_are_the_recorded_ones(name: str, most: float, recorded: dict[str, np.ndarray]) -> None:
    logits = kseg.Predictor(OLD / name).logits(recorded["image"])
    expected = recorded[name.replace(".", "_")]
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= most * np.abs(expected).max()
    assert expected.std() > 0.01


def test_the_second_head_is_still_there(recorded: dict[str, np.ndarray]) -> None:
    model = kseg.models.rebuild(kseg.load(OLD / "fcn8s_two_heads.keras"), output_head="geometric")
    assert model.spec.classes == ("nucleus", "background")
    logits = kseg.Predictor(model).logits(recorded["image"])
    assert np.allclose(logits, recorded["geometric"], atol=1e-4)


@pytest.mark.parametrize("name", [*FILES, "unet.engine"])
def test_specs_are_read(name: str) -> None:
    spec = read_spec(OLD / name)
    assert (spec.task, spec.classes, spec.input_size) == ("semantic", ("background", "nucleus"), (64, 64))
    assert spec.recipe["seed"] == 0
    if not name.endswith(".keras"):
        assert spec.export["verify"]["status"] != "UNVERIFIED"


def test_an_old_run_goes_on(tmp_path: Path) -> None:
    run = shutil.copytree(OLD / "interrupted", tmp_path / "run")
    assert main(["train", "--resume", "--out", str(run)]) == 0
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (OLD / "history_of_the_whole_run.csv").open() as file:
        whole = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name in ("loss", "miou", "val_loss", "val_miou", "learning_rate"):
        assert float(rows[-1][name]) == pytest.approx(float(whole[-1][name]), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("words", [["predict", "unet.tflite", "."], ["rebuild", "unet.keras"]])
def test_an_out_that_is_a_loop_of_links_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(OLD)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert main([*words, "--out", str(loop), *(["--model-args", "{}"] if words[0] == "rebuild" else [])]) == 2
    assert "no path that can be followed" in capsys.readouterr().err
