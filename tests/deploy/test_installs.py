"""Wheel and sdist work away from the source; a finished file runs where nothing else is installed."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
from installs import ROOT, Install, build, install
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kseg
from kseg.errors import EXTRAS

# What training takes and a board does not have.
HEAVY = ("tensorflow", "keras", "matplotlib", "tensorflow_datasets", "pycocotools", "h5py", "scipy", "onnx")

USE = """
import sys
import numpy as np
import kseg

predictor = kseg.Predictor(sys.argv[1])
image = np.load(sys.argv[2])
mask = predictor(image)[0]
assert kseg.viz.overlay(image, mask, predictor.spec).shape == image.shape
assert kseg.viz.legend(predictor.spec).ndim == 3
np.save(sys.argv[3], mask)
heavy = sorted(set(sys.argv[4].split(",")) & set(sys.modules))
assert not heavy, heavy
try:
    kseg.models
except kseg.errors.MissingExtraError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def _declared(wheel: Path) -> list[str]:
    """What the wheel's metadata requires, extras included."""
    (distribution,) = metadata.distributions(path=[str(wheel)])
    return distribution.requires or []


def _outside(tmp_path: Path, images: list[np.ndarray]) -> Path:
    """A folder with photos, away from the source."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(photos / f"{index}.png"), image[..., ::-1])
    np.save(tmp_path / "image.npy", images[0])
    return photos


@pytest.mark.parametrize(
    ("form", "extra", "other"),
    [("tflite", "litert", "onnxruntime"), ("onnx", "onnxruntime", "ai_edge_litert")],
)
def test_a_light_install_runs_a_file_and_holds_nothing_else(
    form, extra, other, built, exported, toy, val_samples, tmp_path
):
    light = install(built[1], tmp_path / "light", [extra])
    photos = _outside(tmp_path, [sample.image for sample in val_samples[:2]])
    file = exported[form]
    for module in (*HEAVY, other):
        assert light.python(f"import {module}", cwd=tmp_path).returncode == 1, module

    used = light.python(USE, file, "image.npy", "mask.npy", ",".join(HEAVY), cwd=tmp_path)
    assert used.returncode == 0, used.stderr
    assert 'pip install "kseg[train]"' in used.stdout
    expected = kseg.Predictor(toy)(val_samples[0].image)[0]
    assert (np.load(tmp_path / "mask.npy") == expected).mean() > 0.999

    predicted = light.kseg("predict", file, photos, "--out", "out", "--json", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert len(json.loads(predicted.stdout)["images"]) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2 * 3

    inspected = light.kseg("inspect", file, "--json", cwd=tmp_path)
    assert json.loads(inspected.stdout)["spec"]["classes"] == list(toy.spec.classes)
    assert light.kseg("inspect", file, cwd=tmp_path).returncode == 0
    assert light.kseg("--version", cwd=tmp_path).stdout == f"kseg {kseg.__version__}\n"
    assert light.kseg("--help", cwd=tmp_path).returncode == 0


def test_what_a_light_install_lacks_is_one_line_with_the_remedy(built, tmp_path):
    light = install(built[1], tmp_path / "light", [])
    for words, extra in [
        (["train", "--model", "unet", "--data", "sample:nuclei", "--out", "run"], "train"),
        (["models"], "train"),
    ]:
        ran = light.kseg(*words, cwd=tmp_path)
        assert ran.returncode == 2, ran.stderr
        assert ran.stderr.strip().splitlines()[-1].endswith(f'Run: pip install "kseg[{extra}]"'), ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["light"]


def test_the_whole_install_works_away_from_the_source(built, exported, tmp_path):
    whole: Install = install(built[1], tmp_path / "whole", ["train", "litert"])
    away = tmp_path / "away"
    away.mkdir()
    assert whole.kseg("--version", cwd=away).stdout == f"kseg {kseg.__version__}\n"
    listed = whole.kseg("models", "unet", "--json", cwd=away)
    assert json.loads(listed.stdout)["name"] == "UNet", listed.stderr
    counted = "import kseg; print(kseg.__file__, len(kseg.data.open('sample:nuclei').samples('val')))"
    printed = whole.python(counted, cwd=away).stdout.split()
    assert Path(printed[0]).is_relative_to(tmp_path / "whole")
    assert printed[1] == "10"
    assert whole.kseg("inspect", exported["tflite"], cwd=away).returncode == 0
    assert whole.kseg("class-weights", "sample:nuclei", cwd=away).returncode == 0
    assert list(away.iterdir()) == []


def test_wheel_and_sdist_hold_what_they_should(built):
    sdist, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"kseg", "deploy", f"kseg-{kseg.__version__}.dist-info"}
    for wanted in (
        r"kseg/data/samples/nuclei/SOURCE\.md",
        r"kseg/viz/fonts/DejaVuSans\.ttf",
        r"kseg/viz/fonts/LICENSE_DEJAVU",
        r".*\.dist-info/licenses/LICENSE",
    ):
        assert any(re.fullmatch(wanted, name) for name in names), wanted
    modules = {
        str(path.relative_to(ROOT)) for room in ("kseg", "deploy") for path in (ROOT / room).rglob("*.py")
    }
    assert modules <= set(names)
    core = [text for text in _declared(wheel) if "extra ==" not in text]
    assert not [text for text in core if re.search("tensorflow|keras|matplotlib", text)], core

    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "CITATION.cff",
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
        "setup.py",
        "docs/design.md",
        "tests/deploy/test_installs.py",
    ):
        assert wanted in held, wanted


def test_what_may_be_missing_is_in_the_extra_that_the_message_names(built):
    distributions = metadata.packages_distributions()
    declared = [Requirement(text) for text in _declared(built[1]) if "extra ==" in text]
    for module, extra in EXTRAS.items():
        names = {canonicalize_name(name) for name in distributions[module]}
        brought = {
            canonicalize_name(need.name)
            for need in declared
            if need.marker and need.marker.evaluate({"extra": extra})
        }
        assert names & brought, (module, extra, names, brought)
