"""`--proposals` and `--ensemble`: what they do to `evaluate` and `predict`, what they say of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from kseg import saving
from kseg.cli.main import main
from kseg.semantic.options.proposals import parse
from kseg.spec import Normalization, Spec

CLASSES = ("background", "lamp")
SIZE = (48, 64)


def write(path: Path, weights: list[float], classes: tuple[str, ...] = CLASSES, **fields: Any) -> Path:
    """A network whose logits are `weights[c] * (mean of the normalised channels)`."""
    image = keras.Input((None, None, 3), name="image")
    head = keras.layers.Conv2D(len(weights), 1, use_bias=False)
    network = keras.Model(image, head(image))
    head.set_weights([np.repeat(np.array(weights, np.float32)[None] / 3, 3, axis=0)[None, None]])
    saving.save(network, path, Spec(classes=classes, input_size=SIZE, **fields))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    street = Normalization(order="bgr", mean=(100.0,) * 3, std=(1.0,) * 3)
    return {
        "model": write(folder / "model.keras", [-3, 3]),
        "other": write(folder / "other.keras", [-1, 1], normalization=street),
        "contrary": write(folder / "contrary.keras", [9, -9]),
        "wrong": write(folder / "wrong.keras", [-1, 1], ("background", "lantern")),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of a bright lamp on a dark wall; of the second the lamp is too small to be looked at."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
    for name, (y0, x0, y1, x1) in {"large": (8, 12, 40, 52), "small": (20, 20, 26, 26)}.items():
        truth = np.zeros(SIZE, np.uint8)
        truth[y0:y1, x0:x1] = 1
        Image.fromarray(np.where(truth[..., None], 230, 20).astype(np.uint8).repeat(3, axis=2)).save(
            root / f"images/val/{name}.png"
        )
        Image.fromarray(truth).save(root / f"labels/val/{name}.png")
    (root / "classes.json").write_text(json.dumps({"classes": list(CLASSES)}))
    return root


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_proposals_find_the_lamp(
    files: dict[str, Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(
        capsys, files["model"], "--data", data, "--proposals", "selective-search:count=5,whole-image=no"
    )
    assert result["miou"] > 0.8
    assert result["options"]["proposals"] == {
        "method": "selective-search",
        "count": 5,
        "whole_image": False,
    }
    assert (result["options"]["resize"], result["options"]["size"]) == ("stretch", list(SIZE))
    # No box is as large as that: all is background, which is what the canvas of zeros means.
    none = evaluated(capsys, files["model"], "--data", data, "--proposals", "edge-boxes:min_side=1000")
    assert none["classes"][1]["acc"] == 0
    assert none["classes"][0]["acc"] == 1
    back = evaluated(
        capsys, files["model"], "--data", data, "--proposals", "edge-boxes:min_side=1000,fallback=yes"
    )
    assert back["miou"] == 1


@pytest.mark.parametrize("form", ["mean", "product"])
def test_ensembles_and_edeconvnet(
    form: str, files: dict[str, Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = (files["model"], "--data", data, "--ensemble-form", form)
    result = evaluated(capsys, *shared, "--ensemble", files["other"])
    assert result["miou"] == 1
    assert result["options"]["ensemble"] == {"form": form, "with": [str(files["other"])]}
    # The contrary network is surer of itself, so it wins the mean. In the product the only class that it
    # leaves is one that the first scores below 0, and 0 is more than that.
    other = evaluated(capsys, *shared, "--ensemble", files["contrary"])
    assert other["classes"][1]["acc"] == (0 if form == "mean" else 1)
    both = evaluated(capsys, *shared, "--ensemble", files["other"], "--proposals", "selective-search:count=5")
    assert both["miou"] > 0.8


def test_weights_of_the_mean_decide_between_networks_that_disagree(
    files: dict[str, Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = (files["model"], "--data", data, "--ensemble", files["contrary"])
    result = evaluated(capsys, *shared, "--ensemble-weights", "1000,1")
    assert result["classes"][1]["acc"] == 1
    assert result["options"]["ensemble"]["weights"] == [1000, 1]
    assert evaluated(capsys, *shared, "--ensemble-weights", "1,1000")["classes"][1]["acc"] == 0


def test_predict_takes_both_and_refiners_come_last(
    files: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--proposals",
        "selective-search:count=5",
        "--ensemble",
        str(files["other"]),
        "--write",
        "mask",
    ]
    out = tmp_path / "out"
    image = data / "images" / "val" / "large.png"
    assert main(["predict", str(files["model"]), str(image), "--out", str(out), *arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    truth = np.asarray(Image.open(data / "labels" / "val" / "large.png"))
    mask = np.asarray(Image.open(printed["images"][0]["mask"]))
    assert (mask == truth).mean() > 0.95
    assert printed["options"]["proposals"]["count"] == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--proposals", "selectivsearch"], ["selectivsearch", "Did you mean 'selective-search'?"]),
        (["--proposals", "edge-boxes:cuont=3"], ["'cuont'", "Did you mean 'count'?"]),
        (["--proposals", "edge-boxes:count=many"], ["'count'", "whole number", "'many'"]),
        (["--proposals", "edge-boxes:count"], ["key=value", "'count'"]),
        (["--proposals", "edge-boxes:whole_image=maybe"], ["yes or no", "'maybe'"]),
        (["--proposals", "edge-boxes:size=32by32"], ["HEIGHTxWIDTH", "'32by32'"]),
        (["--proposals", "edge-boxes:count=0"], ["--proposals", "`count`"]),
        (["--proposals", "edge-boxes:merge=sum"], ["`merge`", "max, mean"]),
        (["--proposals", "edge-boxes:quality=yes"], ["`quality`", "selective-search"]),
        (["--proposals", "edge-boxes", "--flip"], ["merge='mean'"]),
        (["--ensemble", "none.keras"], ["none.keras"]),
        (["--ensemble", "WRONG"], ["lamp", "lantern", "same classes"]),
        (["--ensemble", "OTHER", "--ensemble-form", "sum"], ["'sum'", "mean, product"]),
        (["--ensemble", "OTHER", "--ensemble-form", "produkt"], ["Did you mean 'product'?"]),
        (["--ensemble", "OTHER", "--ensemble-form", "product", "--flip"], ["never positive"]),
        (["--ensemble-form", "mean"], ["needs --ensemble"]),
        (["--ensemble-weights", "2,1"], ["needs --ensemble"]),
        (["--ensemble", "OTHER", "--ensemble-weights", "2,x"], ["2,x"]),
        (["--ensemble", "OTHER", "--ensemble-weights", "2"], ["`weights`", "(2)"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: list[str],
    files: dict[str, Path],
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"WRONG": str(files["wrong"]), "OTHER": str(files["other"])}
    given = [names.get(argument, argument) for argument in arguments]
    try:
        code = main(["evaluate", str(files["model"]), "--data", str(data), *given])
    except SystemExit as stop:  # argparse's way
        code = int(stop.code or 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kseg: ")]
    assert code == 2
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]


def test_every_option_is_read_in_its_kind() -> None:
    text = (
        "Selective_Search:count=7,min-side=0.3,enlarge=1.5,merge=mean,whole_image=yes,fallback=no,size=32x48,"
        "quality=1,max_side=300,seed=4,edge_model=a.yml"
    )
    assert parse(text) == {
        "method": "selective-search",
        "count": 7,
        "min_side": 0.3,
        "enlarge": 1.5,
        "merge": "mean",
        "whole_image": True,
        "fallback": False,
        "size": (32, 48),
        "quality": True,
        "max_side": 300,
        "seed": 4,
        "edge_model": "a.yml",
    }
