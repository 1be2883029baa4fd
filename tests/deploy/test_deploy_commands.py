"""kseg export, verify and benchmark as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import CLASSES, build_toy, toy_sample, toy_spec

import deploy
from kseg.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The toy's images as a data folder: 16 train, 10 val."""
    root = tmp_path_factory.mktemp("data")
    for split, seeds in (("train", range(16)), ("val", range(100, 110))):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            sample = toy_sample(seed)
            Image.fromarray(sample.image).save(root / "images" / split / f"{sample.name}.png")
            Image.fromarray(sample.mask).save(root / "labels" / split / f"{sample.name}.png")
    about = {"classes": list(CLASSES), "palette": [[0, 0, 0], [255, 255, 0]], "void_id": 255}
    (root / "classes.json").write_text(json.dumps(about))
    return root


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory) -> Path:
    from kseg.saving import save

    path = tmp_path_factory.mktemp("run") / "model.keras"
    save(toy, path, toy.spec)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_export_verify_benchmark(saved, folder, tmp_path, capfd):
    out = tmp_path / "model_int8.tflite"
    arguments = ["--to", "tflite", "--precision", "int8", "--data", str(folder), "--out", str(out), "--json"]
    assert main(["export", str(saved), *arguments]) == 0
    outcome = json.loads(capfd.readouterr().out)
    assert outcome["calibration"]["split"] == "train"
    assert outcome["calibration"]["images"] == 16
    assert outcome["verify"]["split"] == "val"
    assert outcome["verify"]["status"] == "passed"

    check = ["--reference", str(saved), "--data", str(folder), "--json"]
    assert main(["verify", str(out), *check, "--max-miou-drop", "1.0"]) == 0
    verified = json.loads(capfd.readouterr().out)
    assert verified["passed"] is True
    assert verified["images"] == 10
    assert deploy.read_spec(out).export["verify"]["status"] == "passed"

    assert main(["benchmark", str(saved), str(out), "--data", str(folder), "--repeats", "5", "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert [row["precision"] for row in measured["rows"]] == ["float32", "int8"]
    assert all(row["miou"] > 0.7 for row in measured["rows"])


def test_a_failed_gate_is_exit_code_1_and_written_down(saved, folder, exported, toy, tmp_path, capfd):
    from kseg.saving import save

    other = build_toy()
    save(other, tmp_path / "untrained.keras", toy_spec())
    path = tmp_path / "bad.tflite"
    deploy.export(tmp_path / "untrained.keras", path, verify=False)
    assert main(["verify", str(path), "--reference", str(saved), "--data", str(folder)]) == 1
    assert "verify: FAILED" in capfd.readouterr().out
    assert deploy.read_spec(path).export["verify"]["status"] == "FAILED"


def test_a_model_near_chance_is_said_and_may_be_allowed(folder, tmp_path, capfd):
    from kseg.saving import save

    save(build_toy(), tmp_path / "untrained.keras", toy_spec())
    arguments = ["export", str(tmp_path / "untrained.keras"), "--data", str(folder)]
    assert main([*arguments, "--out", str(tmp_path / "m.onnx")]) == 1
    printed = capfd.readouterr()
    assert "near chance" in printed.out
    assert "--allow-near-chance" in printed.err
    assert deploy.read_spec(tmp_path / "m.onnx").export["verify"]["status"] == "FAILED"
    assert main([*arguments, "--out", str(tmp_path / "n.onnx"), "--allow-near-chance"]) == 0
    assert "near chance" in capfd.readouterr().out


def test_a_budget_per_class_is_a_gate(saved, folder, exported, capfd):
    check = ["verify", str(exported["tflite"]), "--reference", str(saved), "--data", str(folder)]
    assert main([*check, "--max-class-drop", "0.5", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["class_budget"] == 0.5


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "101", "", "x", "1e400"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", "--min-miou"),
        ("verify", "--max-miou-drop"),
        ("verify", "--max-class-drop"),
        ("export", "--max-miou-drop"),
        ("export", "--max-class-drop"),
    ],
)
def test_a_gate_takes_finite_points_only(command, option, value, saved, folder, capfd):
    needed = {"evaluate": [], "verify": ["--reference", str(saved)], "export": ["--to", "onnx"]}[command]
    arguments = [command, str(saved), "--data", str(folder), *needed, f"{option}={value}"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert f"expected a number from 0 to 100, received '{value}'" in " ".join(capfd.readouterr().err.split())


def test_tables_for_people(saved, folder, tmp_path, capfd):
    out = tmp_path / "m.onnx"
    assert main(["export", str(saved), "--data", str(folder), "--out", str(out)]) == 0
    captured = capfd.readouterr()
    assert "verify: passed" in captured.out
    assert "disc" in captured.out
    assert "kseg benchmark" in captured.err
    assert main(["benchmark", str(out), "--repeats", "1", "--plot", str(tmp_path / "b.png")]) == 0
    assert "m.onnx" in capfd.readouterr().out
    assert (tmp_path / "b.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--to", "tflight"], "Did you mean 'tflite'"),
        (["--to", "tflite", "--precision", "flot16"], "Did you mean 'float16'"),
        (["--to", "tflite", "--precision", "int8", "--no-verify"], "int8 needs images"),
        (["--to", "onnx"], "--no-verify"),
    ],
)
def test_errors_are_one_line(arguments, text, saved, capfd):
    assert main(["export", str(saved), *arguments]) == 2
    error = capfd.readouterr().err.strip()
    assert text in error.replace("\n", " ")
    assert "Traceback" not in error
    assert not list(saved.parent.glob("*.tflite"))


def test_default_name_and_unverified(saved, capfd):
    assert main(["export", str(saved), "--to", "tflite", "--precision", "float16", "--no-verify"]) == 0
    assert "UNVERIFIED" in capfd.readouterr().out
    path = saved.with_name("model_float16.tflite")
    assert np.isfinite(deploy.load(path)(np.zeros((1, 48, 64, 3), np.float32))).all()
