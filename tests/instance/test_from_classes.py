"""Objects out of class maps: what touches is parted, what is small is left out, by command and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from kseg.cli.main import main
from kseg.data.sources.embedded import SAMPLES
from kseg.errors import UsageError
from kseg.instance.from_classes import ObjectsOfClasses, separated
from kseg.spec import Spec
from kseg.tasks import OneOutput

SPEC = Spec(classes=("background", "blob", "bar"))
IMAGE = np.zeros((40, 60, 3), np.uint8)


def _discs(*discs: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return np.any([(y - row) ** 2 + (x - column) ** 2 <= radius**2 for row, column, radius in discs], axis=0)


class Classes:
    """A predictor that says one class map, with a margin of logits."""

    spec, size, resize, overlap = SPEC, None, "none", 0.25

    def __init__(self, classes: np.ndarray, margin: float = 4.0) -> None:
        self.runtime = OneOutput()
        self._logits = (margin * np.eye(3, dtype=np.float32))[classes]

    def logits(self, image: np.ndarray) -> np.ndarray:
        return self._logits

    def close(self) -> None:
        """Nothing is held."""


def test_components_are_scipys() -> None:
    mask = np.random.default_rng(0).random((40, 60)) < 0.4
    ids, count = separated(mask, "components")
    expected, known = ndimage.label(mask, structure=np.ones((3, 3)))
    assert count == known
    # As many pairs of ids as objects: they are the same but for their numbers.
    assert len({*zip(ids.flat, expected.flat, strict=True)}) == known + 1


def test_a_watershed_parts_what_touches() -> None:
    both = _discs((20, 18, 10), (20, 35, 10))
    assert separated(both, "components")[1] == 1
    ids, count = separated(both)
    assert count == 2
    assert ids[20, 18] != ids[20, 35]
    # The border lies in the middle, where the neck is.
    assert (ids[:, :26] != ids[20, 35]).all()
    assert (ids[:, 27:] != ids[20, 18]).all()
    np.testing.assert_array_equal(ids > 0, both)
    assert separated(both, apart=30)[1] == 1


def test_an_object_at_the_edge_is_one() -> None:
    assert separated(_discs((0, 30, 12)))[1] == 1


def test_classes_scores_and_small_ones() -> None:
    classes = _discs((10, 12, 7), (10, 40, 7)).astype(int)
    classes[30:36, 5:55] = 2
    classes[38, 2:4] = 1
    found = ObjectsOfClasses(Classes(classes))(IMAGE)[0]
    assert sorted(found.classes) == [1, 1, *[2] * (len(found) - 2)]
    np.testing.assert_allclose(found.scores, 1 / (1 + 2 * np.exp(-4)), rtol=1e-5)
    covered = np.any([found.mask(index) for index in range(len(found))], axis=0)
    np.testing.assert_array_equal(covered, (classes > 0) & (np.arange(40)[:, None] < 38))
    assert len(ObjectsOfClasses(Classes(classes * 0))(IMAGE)[0]) == 0


def test_arguments_are_checked() -> None:
    with pytest.raises(UsageError, match="method"):
        ObjectsOfClasses(Classes(np.zeros((40, 60), int)), "magic")
    with pytest.raises(UsageError, match="least"):
        ObjectsOfClasses(Classes(np.zeros((40, 60), int)), least=-1)


def test_a_semantic_model_is_scored_by_its_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    words = (
        "train --model unet --data sample:nuclei --size 64 --limit 4 --val-limit 2 --epochs 1 --batch-size 4"
    )
    thin = ["--model-args", '{"width": 0.125, "depth": 2}', "--resize", "stretch", "--out", run]
    assert main([*words.split(), *thin]) == 0
    look = [f"{run}/model.keras", "--data", "sample:nuclei", "--limit", "2"]
    capsys.readouterr()
    assert main(["evaluate", *look, "--objects", "watershed", "--objects-least", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["ap"] <= found["ap50"] <= 1
    assert found["options"]["objects"] == {"method": "watershed", "apart": 5.0, "least": 4}
    assert found["options"]["size"] == [64, 64]
    assert main(["evaluate", *look, "--objects", "components"]) == 0
    assert "objects by components" in capsys.readouterr().out
    image = next((SAMPLES / "nuclei" / "images" / "val").iterdir())
    out = tmp_path / "pictures"
    assert main(["predict", look[0], str(image), "--objects", "watershed", "--out", str(out)]) == 0
    assert (out / f"{image.stem}_ids.png").is_file()
