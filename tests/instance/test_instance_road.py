"""An instance network by the same commands as any other: train, evaluate, predict, export, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kseg.cli.main import main
from kseg.data.sources.embedded import SAMPLES

DATA = "sample:nuclei"
THIN = {"encoder": None, "width": 0.0625, "anchor_scale": 4, "proposals": 32, "detections": 12}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("road") / "run"
    words = (
        "train --model maskrcnn --size 64 --resize stretch --limit 6 --val-limit 2 --epochs 2 --batch-size 2"
    )
    words += " --precision float32 --ema 0.5 --learning-rate 0.003"
    assert main([*words.split(), "--model-args", json.dumps(THIN), "--data", DATA, "--out", str(folder)]) == 0
    return folder


def test_history_has_every_loss_and_the_score(run: Path) -> None:
    head = (run / "history.csv").read_text().splitlines()[0].split(",")
    losses = {f"{name}_loss" for name in ("rpn_class", "rpn_box", "box_class", "box", "mask")}
    assert {*losses, *(f"val_{name}" for name in losses), "val_ap"} <= set(head)


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run / "model.keras"), "--data", DATA, "--limit", "2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["ap"] <= found["ap50"] <= 1
    assert found["objects"] > 10
    assert found["options"] == {"size": [64, 64], "resize": "stretch", "overlap": 0.25}
    assert main(words) == 0
    assert "objects that are missed" in capsys.readouterr().out
    assert main([*words, "--flip"]) == 2
    assert "'instance' has no --flip" in capsys.readouterr().err
    assert main([*words, "--objects", "watershed"]) == 2
    assert "'instance' has no --objects" in capsys.readouterr().err


def test_predict(run: Path, tmp_path: Path) -> None:
    image = next((SAMPLES / "nuclei" / "images" / "val").iterdir())
    assert main(["predict", str(run / "model.keras"), str(image), "--out", str(tmp_path)]) == 0
    assert sorted(path.name.removeprefix(image.stem) for path in tmp_path.iterdir()) == [
        "_coco.json", "_ids.png", "_objects.jpg",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def artefacts(run: Path) -> dict[str, str]:
    made = {}
    for target, precision in (("onnx", "float32"), ("tflite", "float32"), ("tflite", "int8")):
        out = made[f"{target} {precision}"] = str(run / "exports" / f"{precision}.{target}")
        words = ["export", str(run / "model.keras"), "--to", target, "--precision", precision, "--out", out]
        assert main([*words, "--data", DATA, "--no-verify", "--calibration-images", "2"]) == 0
    return made


@pytest.mark.parametrize("kind", ["onnx float32", "tflite float32"])
def test_artefacts_find_the_same(
    run: Path, artefacts: dict[str, str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(run / "model.keras"), artefacts[kind]
    capsys.readouterr()
    for file in (model, out):
        assert main(["evaluate", file, "--data", DATA, "--limit", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    scores = [json.loads(text) for text in printed.replace("}\n{", "}\0{").split("\0")]
    assert scores[0]["ap"] == pytest.approx(scores[1]["ap"], abs=1e-3)
    assert scores[0]["detections"] == scores[1]["detections"]


def test_int8_leaves_places_in_float(artefacts: dict[str, str]) -> None:
    import deploy
    from deploy.tflite.runtime import TFLiteRuntime

    assert deploy.read_spec(artefacts["tflite int8"]).export["keep_float"].startswith("rpn_score|rpn_box")
    runtime = TFLiteRuntime(artefacts["tflite int8"])
    # The loop of suppression is written out: what calibrates reads every tensor.
    assert "WHILE" not in runtime.operators()
    runtime.close()


def test_benchmark(run: Path, artefacts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(run / "model.keras"), *artefacts.values()]
    capsys.readouterr()
    assert main(["benchmark", *files, "--data", DATA, "--limit", "2", "--repeats", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["setup"]["metric"] == "ap"
    assert all(0 <= row["ap"] <= 1 and row["p50_ms"] > 0 for row in found["rows"])


def test_report(run: Path) -> None:
    assert main(["report", str(run), "--data", DATA]) == 0
    page = (run / "report.html").read_text()
    assert "mask AP" in page
    assert 'data-layer="errors"' in page


def test_semantic_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from PIL import Image

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "data/images" / split / "a.png")
        Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "data/labels" / split / "a.png")
    (tmp_path / "data/classes.json").write_text('{"classes": ["ground", "line"]}')
    words = ["train", "--model", "maskrcnn", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main([*words, "--model-args", json.dumps(THIN), "--size", "64"]) == 2
    assert "has no instances: this data holds a class for each pixel" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
