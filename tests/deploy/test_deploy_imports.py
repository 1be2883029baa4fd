"""A board has numpy and one runtime: loading and predicting must do without TensorFlow and Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.formats import FORMATS
from kseg.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]

PREDICT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name + " was imported")

sys.meta_path.insert(0, Refuse())
import numpy as np
import deploy, kseg

for name in dir(deploy):
    getattr(deploy, name)
image = np.load(sys.argv[2])
runtime = deploy.load(sys.argv[1])
mask = kseg.Predictor(runtime)([image])[0]
np.save(sys.argv[3], mask)
"""


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_prediction_needs_neither_tensorflow_nor_keras(name, exported, toy, val_samples, tmp_path):
    from kseg.inference import Predictor

    others = {"tflite": ["onnx", "onnxruntime"], "onnx": ["ai_edge_litert", "onnx"]}[name]
    image = val_samples[0].image
    np.save(tmp_path / "image.npy", image)
    script = PREDICT.format(refused=["tensorflow", "keras", "tf_keras", "jax", *others])
    ran = subprocess.run(
        [sys.executable, "-c", script, exported[name], tmp_path / "image.npy", tmp_path / "mask.npy"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    assert (np.load(tmp_path / "mask.npy") == Predictor(toy)([image])[0]).mean() > 0.999


def test_missing_runtime_names_the_extra(exported, monkeypatch):
    import deploy

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r'pip install "kseg\[litert\]"'):
        deploy.load(exported["tflite"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "kseg\[onnxruntime\]"'):
        deploy.load(exported["onnx"])


def test_missing_converter_is_told_before_any_work(toy, tmp_path, monkeypatch):
    import deploy

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "kseg\[onnx\]"'):
        deploy.export(toy, tmp_path / "m.onnx", verify=False)
    assert list(tmp_path.iterdir()) == []


def test_submodules_do_not_take_the_place_of_functions():
    import deploy

    folder = Path(deploy.__path__[0])
    submodules = {file.stem for file in folder.glob("*.py")} | set(FORMATS)
    assert not submodules & set(deploy.__all__)


COMMANDS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Refuse())
from kseg.cli.main import main
codes = [main(words.split("|")) for words in sys.argv[1:]]
assert codes == [0] * len(codes), codes
"""


def test_commands_on_a_finished_file_need_nothing_that_training_does(exported, val_samples, tmp_path):
    """The fast twin of tests/deploy/test_installs.py: what a light install lacks is refused, not absent."""
    from PIL import Image

    from kseg.errors import EXTRAS

    Image.fromarray(val_samples[0].image).save(tmp_path / "a.png")
    file = exported["tflite"]
    lines = [
        "--help",
        f"inspect|{file}",
        f"predict|{file}|{tmp_path / 'a.png'}|--out|{tmp_path / 'out'}|--write|mask,color,overlay,plain",
        "completion|bash",
    ]
    refused = sorted({*EXTRAS, "h5py", "scipy", "skimage", "absl", "pyarrow"} - {"ai_edge_litert"})
    ran = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(refused=refused), *lines],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "out").iterdir())) == 4
