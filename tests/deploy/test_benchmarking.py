"""deploy.benchmark: every measure, in fresh processes; warnings; the plot."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import deploy
from deploy import benchmarking
from kseg.errors import ArtefactError, UsageError
from kseg.metrics.confusion import Confusion


@pytest.fixture(scope="module")
def measured(toy, exported_once, val_samples, tmp_path_factory):
    from kseg.saving import save

    folder = tmp_path_factory.mktemp("benchmark")
    save(toy, folder / "toy.keras", toy.spec)
    paths = [folder / "toy.keras", exported_once["tflite"], exported_once["onnx"]]
    result = deploy.benchmark(
        paths,
        data=val_samples,
        limit=8,
        repeats=12,
        threads=1,
        json=folder / "result.json",
        plot=folder / "result.png",
    )
    return folder, result


def test_every_measure_of_every_file(measured, toy, val_samples):
    from kseg.inference import Predictor

    _, result = measured
    assert [row["format"] for row in result["rows"]] == ["keras", "tflite", "onnx"]
    assert result["rows"][0]["speedup"] == 1.0
    assert result["setup"]["images"] == 8
    confusion = Confusion(2)
    predictor = Predictor(toy)
    chosen = deploy.images.spread(val_samples, limit=8)
    for sample in chosen:
        confusion.update(sample.mask, predictor([sample.image])[0])
    for row in result["rows"]:
        assert row["status"] == "measured"
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["images_per_s"] > 0
        assert row["load_s"] > 0
        assert row["bytes"] > 1000
        assert row["miou"] == pytest.approx(confusion.scores()["miou_present"], abs=1e-3)
        assert row["size"] == [48, 64]
    keras, tflite, onnx = result["rows"]
    # A worker that stayed clear of TensorFlow is small; the one with Keras cannot be.
    assert tflite["peak_bytes"] < 150e6 < keras["peak_bytes"]
    assert onnx["peak_bytes"] < 200e6
    assert tflite["load_s"] < keras["load_s"]


def test_json_and_plot_are_written(measured):
    folder, result = measured
    assert json.loads((folder / "result.json").read_text()) == result
    with Image.open(folder / "result.png") as picture:
        assert picture.width > 500
        assert len(set(picture.convert("RGB").resize((64, 16)).getdata())) > 3


def test_without_data_there_is_no_miou(exported):
    result = deploy.benchmark([exported["tflite"]], repeats=1)
    assert "miou" not in result["rows"][0]
    assert result["rows"][0]["p50_ms"] > 0


def _row(precision, p50, name="tflite"):
    return {
        "path": f"m_{precision}",
        "format": name,
        "precision": precision,
        "status": "measured",
        "p50_ms": p50,
        "bytes": 10,
        "size": [4, 4],
    }


def test_a_slow_int8_is_warned_about():
    slow = benchmarking._warnings([_row("float32", 5.0), _row("float16", 4.0), _row("int8", 4.5)])
    assert len(slow) == 1
    assert "int8 is slower than float16" in slow[0]
    assert benchmarking._warnings([_row("float32", 5.0), _row("int8", 4.5)]) == []
    # Closer than the figures are exact: no advice.
    assert benchmarking._warnings([_row("float16", 4.0), _row("int8", 4.1)]) == []
    assert benchmarking._warnings([_row("float32", 1.0, "onnx"), _row("int8", 4.5)]) == []


def test_rows_without_a_device_are_listed_not_run(exported, monkeypatch):
    ask = benchmarking._Process.ask

    def refuse(process, command, **values):
        if process.path.suffix == ".onnx":
            raise benchmarking._NoDevice("no CUDA device")
        return ask(process, command, **values)

    monkeypatch.setattr(benchmarking._Process, "ask", refuse)
    result = deploy.benchmark([exported["onnx"], exported["tflite"]], repeats=1)
    assert [row["status"] for row in result["rows"]] == ["not run: no CUDA device", "measured"]
    assert result["rows"][1]["speedup"] == 1.0


def test_a_worker_that_dies_is_reported(exported, monkeypatch):
    ask = benchmarking._Process.ask

    def kill(process, command, **values):
        process._child.kill()
        process._child.wait()
        return ask(process, command, **values)

    monkeypatch.setattr(benchmarking._Process, "ask", kill)
    with pytest.raises(ArtefactError, match="ended with code -9"):
        deploy.benchmark([exported["tflite"]], repeats=1)


def test_wrong_arguments(exported, tmp_path):
    with pytest.raises(UsageError, match="at least one model file"):
        deploy.benchmark([])
    with pytest.raises(UsageError, match="repeats=0"):
        deploy.benchmark([exported["tflite"]], repeats=0)
    half = shutil.copy(exported["tflite"], tmp_path / "half.tflite")
    with open(half, "r+b") as file:
        file.truncate(2000)
    with pytest.raises(ArtefactError, match="half"):
        deploy.benchmark([half])
    with pytest.raises(UsageError, match="A plot must end in"):
        deploy.benchmark([exported["tflite"]], plot=tmp_path / "plot.txt")
