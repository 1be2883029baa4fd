"""`--refine` on `kseg evaluate` and `kseg predict`."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kseg import saving
from kseg.cli.main import main
from kseg.spec import Normalization, Spec

SPEC = Spec(classes=("dark", "bright"), normalization=Normalization(mean=(127.5,) * 3, std=(127.5,) * 3))
COARSE = "superpixels:scale=100,sigma=0,min_size=60"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that calls a pixel bright when its mean is above the middle."""
    image = keras.Input((None, None, 3), name="image")
    head = keras.layers.Conv2D(2, 1)
    network = keras.Model(image, head(image))
    head.set_weights([np.array([[[[-1, 1]] * 3]], np.float32), np.zeros(2, np.float32)])
    path = tmp_path_factory.mktemp("model") / "model.keras"
    saving.save(network, path, SPEC)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark left, bright right, and a few bright pixels in the dark that are labelled dark."""
    root = tmp_path_factory.mktemp("data")
    truth = np.zeros((20, 30), np.uint8)
    truth[:, 15:] = 1
    image = np.repeat((20 + 210 * truth)[..., None], 3, axis=2).astype(np.uint8)
    image[4:7, 4:7] = 230
    for folder, pixels in (("images/val", image), ("labels/val", truth)):
        (root / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(root / folder / "0.png")
    classes = {"classes": list(SPEC.classes), "palette": [[10, 20, 30], [200, 100, 0]], "void_id": 255}
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def score(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_scores_the_refined_maps(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = score(capsys, model, "--data", data)
    assert raw["pixel_acc"] == pytest.approx(591 / 600)
    assert raw["options"]["refine"] == []
    refined = score(capsys, model, "--data", data, "--refine", COARSE)
    assert refined["pixel_acc"] == 1
    assert refined["runtime"] == "keras"
    expected = {"name": "superpixels", "scale": 100.0, "sigma": 0.0, "min_size": 60}
    assert refined["options"]["refine"] == [expected]


def test_refiners_are_applied_in_order(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = score(capsys, model, "--data", data, "--refine", "superpixel-crf", "--refine", "tree-cover")
    assert [item["name"] for item in result["options"]["refine"]] == ["superpixel-crf", "tree-cover"]


def test_predict_writes_the_refined_map(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = data / "images/val/0.png"
    words = ["predict", str(model), str(image), "--out", str(tmp_path), "--write", "mask", "--json"]
    assert main([*words, "--refine", COARSE]) == 0
    printed = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "0_mask.png")), np.asarray(Image.open(data / "labels/val/0.png"))
    )
    assert printed["options"]["refine"][0]["name"] == "superpixels"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("superpixl", "Did you mean 'superpixels'?"),
        ("superpixels:scal=1", "Did you mean 'scale'?"),
        ("superpixels:scale=x", "must be a number"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_exit_code_2(
    text: str, words: str, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(model), "--data", str(data), "--refine", text])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("superpixels:scale=-1", "Refiner 'superpixels': Argument `scale` must be a number >= 0"),
        ("tree-cover:classifier=none.keras", "'none.keras' does not exist"),
    ],
)
def test_values_out_of_range_are_one_line_with_exit_code_2(
    text: str, words: str, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), "--data", str(data), "--refine", text]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert words in lines[-1]


def test_train_segments_makes_what_tree_cover_takes(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = saving.load(model).layers[-1].name
    out = tmp_path / "segments.keras"
    words = ["train-segments", model, "--data", data, "--split", "val", "--out", out, "--layer", layer]
    few = ["--grid", 1, "--hidden", 8, "--epochs", 2, "--tree", "linkage=mst,scale=10,min_size=4"]
    assert main([*map(str, [*words, *few]), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["segments"] >= 3
    assert len(result["kl"]) == 2
    scored = score(capsys, model, "--data", data, "--refine", f"tree-cover:classifier={out},linkage=mst")
    assert scored["images"] == 1
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), "--tree", "classifier=x.keras"])
    assert stop.value.code == 2
    assert "leave it out" in capsys.readouterr().err
    assert main([*map(str, words[:-1]), "nowhere"]) == 2
    assert "has no layer 'nowhere'" in capsys.readouterr().err


def test_help_shows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    printed = capsys.readouterr().out
    for words in ("--refine NAME[:key=value,...]", "tree-cover: ", "gamma: weight of borders (200.0)"):
        assert words in printed
