"""docs/deploying.md: its code runs without kseg, and finds the classes that kseg.Predictor finds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import deploy
import kseg
from kseg.inference.geometry import pad_to
from kseg.layers import BilinearUpsampling
from kseg.spec import Normalization, Spec

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
SIZE = (48, 64)
# (height, width): under the rule "none" only what is no larger than the input goes in one piece.
PICTURES = {
    "none": [(48, 64), (31, 64), (40, 50)],
    "stretch": [(48, 64), (97, 75), (30, 31), (20, 130)],
    "fit": [(96, 64), (97, 75), (20, 33), (30, 200)],
}
# A channel order and means that are no mirror images of themselves, and beyond what rounds away.
NORMS = (
    Normalization(mean=(97.6, 110.3, 140.5), std=(50.0, 60.0, 70.0)),
    Normalization(order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)),
)
HARNESS = """
import sys
class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kseg", "deploy", "tensorflow", "keras", "jax"):
            raise AssertionError(f"the page's code imports {name}")
sys.meta_path.insert(0, NotHere())
"""


def _blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def _block(word: str) -> str:
    return next(block for block in _blocks() if word in block)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network whose classes depend on colour and on what lies around a pixel, as a file of each format."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(16, 7, strides=4, padding="same", activation="tanh")(image)
    x = keras.layers.Conv2D(16, 5, padding="same", activation="tanh")(x)
    model = keras.Model(image, BilinearUpsampling(4)(keras.layers.Conv2D(5, 1)(x)))
    model.spec = Spec(classes=tuple("abcde"), input_size=SIZE)
    folder = tmp_path_factory.mktemp("exported")
    paths = {name: folder / f"model.{name}" for name in ("tflite", "onnx")}
    for path in paths.values():
        deploy.export(model, path, verify=False)
    return paths


def _picture(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("norm", NORMS, ids=["rgb", "bgr"])
@pytest.mark.parametrize("rule", PICTURES)
@pytest.mark.parametrize(("name", "word"), [("tflite", "LiteRT"), ("onnx", "onnxruntime")])
def test_the_page_finds_what_the_predictor_finds(name, word, rule, norm, exported, tmp_path):
    path = tmp_path / f"model.{name}"
    path.write_bytes(exported[name].read_bytes())
    deploy.embed(path, deploy.read_spec(path).replace(resize=rule, normalization=norm))
    run = _block("ai_edge_litert" if name == "tflite" else word)
    lines = [HARNESS, _block("def segment"), "import os, numpy as np"]
    predictor, expected = kseg.Predictor(path), {}
    for index, size in enumerate(PICTURES[rule]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), _picture(size)[..., ::-1])
        expected[index] = predictor(tmp_path / f"{index}.png")[0]
        lines += [f"os.replace('{index}.png', 'photo.png')", run, f"np.save('{index}.npy', classes)"]
    predictor.close()
    (tmp_path / "page.py").write_text("\n".join(lines))
    ran = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for index, classes in expected.items():
        found = np.load(tmp_path / f"{index}.npy")
        assert found.shape == classes.shape
        assert len(np.unique(classes)) > 1
        # Where two classes are all but equal, the last bit of a resize decides.
        assert (found == classes).mean() > 0.999


def test_black_padding_would_be_noticed(exported, tmp_path, monkeypatch):
    """The comparison above can fail: another padding value changes the classes."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported["onnx"].read_bytes())
    deploy.embed(path, deploy.read_spec(path).replace(resize="fit", normalization=NORMS[0]))
    right = kseg.Predictor(path)(_picture((30, 200)))[0]
    module = sys.modules["kseg.semantic.inference.predictor"]
    monkeypatch.setattr(module, "pad_to", lambda image, size, fill: pad_to(image, size, (0, 0, 0)))
    black = kseg.Predictor(path)(_picture((30, 200)))[0]
    assert (right == black).mean() < 0.98


def test_the_recipe_is_short():
    body = _block("def segment").split('"""')[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_the_page_names_every_engine_builder():
    for row in deploy.FORMATS.values():
        if row.suffix == ".engine":
            assert f"| `{row.name}` |" in PAGE
            assert f'kseg[{row.extra}]"' in PAGE
