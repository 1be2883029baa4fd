"""`--stitch K` of `kseg evaluate` and `kseg predict`."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kseg import saving
from kseg.cli.main import main
from kseg.inference import Predictor
from kseg.models import FCN8s
from kseg.semantic.inference.shift_and_stitch import ShiftAndStitchRuntime
from kseg.spec import Spec

SPEC = Spec(classes=("dark", "bright"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thin FCN-8s with random scores."""
    keras.utils.set_random_seed(0)
    network = FCN8s(num_classes=2, width=0.03, head_channels=8)
    random = np.random.default_rng(0)
    for name in ("score_fr", "score_pool4", "score_pool3"):
        layer = network.get_layer(name)
        layer.set_weights([random.normal(0, 1, w.shape).astype("float32") for w in layer.weights])
    path = tmp_path_factory.mktemp("model") / "model.keras"
    saving.save(network, path, SPEC)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype("uint8").repeat(6, 0).repeat(6, 1)
    Image.fromarray(pixels).save(path)
    return path


def test_predict_writes_what_the_stitched_network_finds(
    model: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(model), str(photo), "--out", str(tmp_path), "--write", "mask", "--json"]
    assert main([*command, "--stitch", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["stitch"] == 2
    written = np.asarray(Image.open(tmp_path / "photo_mask.png"))
    network = saving.load(model)
    image = np.asarray(Image.open(photo))
    np.testing.assert_array_equal(written, Predictor(ShiftAndStitchRuntime(network, 2))(image)[0])
    assert (written != Predictor(network)(image)[0]).any()


@pytest.mark.parametrize(("shifts", "words"), [("3", "must divide the stride 8"), ("0", "whole number >= 1")])
def test_a_wrong_number_of_shifts_is_one_clear_line(
    model: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shifts: str, words: str
) -> None:
    command = ["predict", str(model), str(photo), "--out", str(tmp_path), "--stitch", shifts]
    try:
        code = main(command)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert words in " ".join(capsys.readouterr().err.split())
