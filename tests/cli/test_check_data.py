"""`kseg check-data` and `kseg class-weights` as a user runs them: output, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kseg.cli.main import main


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, pixels in (
            ("images", rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)),
            ("labels", np.repeat(np.array([[0, 1, 1, 1, 1, 255]], np.uint8), 4, 0)),
        ):
            path = tmp_path / kind / split / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["[road]", "car"]}))
    return tmp_path


def test_clean_folder(folder, capsys):
    assert main(["check-data", str(folder)]) == 0
    output = capsys.readouterr()
    assert "fit for training" in output.out
    assert "[road]" in output.out  # names with brackets are no markup
    assert "kseg train" in output.err


def test_json_is_alone_on_stdout(folder, capsys):
    assert main(["check-data", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["splits"]["train"]["shares"] == [0.2, 0.8]
    assert set(report["weights"]) == {"median_frequency", "sqrt_median", "inverse", "enet"}


def test_wrong_data_exits_with_one_and_names_file_and_repair(folder, capsys):
    mask = np.repeat(np.array([[9, 1, 1, 0, 0, 0]], np.uint8), 4, 0)
    Image.fromarray(mask).save(folder / "labels" / "train" / "a.png")
    assert main(["check-data", str(folder)]) == 1
    output = capsys.readouterr().out
    assert "not fit for training" in output
    assert "labels/train/a.png" in output
    assert "id_map=" in output
    assert main(["check-data", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["code"] == "ids_out_of_range"
    assert main(["check-data", str(folder), "--id-map", '{"9": 0}', "--json"]) == 0


def test_palette_option(folder, capsys):
    for split in ("train", "val"):
        pixels = np.array([[[9, 9, 9], [200, 0, 0], [200, 0, 0]]] * 4, np.uint8).repeat(2, 1)
        Image.fromarray(pixels).save(folder / "labels" / split / "a.png")
    assert main(["check-data", str(folder)]) == 1
    assert "--palette FILE" in capsys.readouterr().out
    (folder / "p.txt").write_text("200 0 0 car\n9 9 9 [road]\n")
    assert main(["check-data", str(folder), "--palette", str(folder / "p.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["val"]["pixels"] == [8, 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check-data", "nowhere"], "does not exist"),
        (["check-data", "DIR", "--id-map", "[1]"], "--id-map: expected an object"),
        (["check-data", "DIR", "--limit", "0"], "--limit must be at least 1"),
        (["check-data", "DIR", "--palette", "none.txt"], "does not exist"),
        (["class-weights", "DIR", "--scheme", "enett"], "Did you mean 'enet'"),
        (["class-weights", "DIR", "--split", "tran"], "Did you mean 'train'"),
    ],
)
def test_usage_and_data_errors_are_one_line_and_exit_with_two(folder, capsys, arguments, message):
    assert main([str(folder) if word == "DIR" else word for word in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert "Traceback" not in output.err


def test_class_weights(folder, capsys):
    assert main(["class-weights", str(folder), "--scheme", "inverse", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pixels"] == [4, 16]
    assert values["weights"] == pytest.approx([2.5, 0.625])
    assert values["void_share"] == pytest.approx(1 / 6)
    assert main(["class-weights", str(folder), "--scheme", "inverse", "--mean-one", "--power", "0.5"]) == 0
    output = capsys.readouterr().out
    mean_one = np.sqrt([2.5, 0.625]) / (0.2 * np.sqrt(2.5) + 0.8 * np.sqrt(0.625))
    assert f"{mean_one[0]:.4f}" in output
    assert f"{mean_one[1]:.4f}" in output


def test_class_weights_refuses_ids_that_are_no_class(folder, capsys):
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(folder / "labels" / "train" / "a.png")
    assert main(["class-weights", str(folder)]) == 2
    assert "kseg check-data" in capsys.readouterr().err
