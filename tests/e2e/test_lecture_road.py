"""Networks of the lecture from training to a verified file by commands alone, and input they cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typed import Kseg, leftovers

import kseg as package
from kseg.cli.main import main

SIZE = 32
PATCH = ["--model", "patchnet", "--model-args", '{"width": 0.05, "output_stride": 4, "dropout": 0.0}']
RECURRENT = ["--model", "recurrentcnn", "--model-args", '{"width": 0.2, "instances": 2, "output_stride": 4}']


def start(data: Path, out: Path, *more: object) -> list[object]:
    """Return the arguments of a short training on images of 32x32."""
    common = ["--size", f"{SIZE}x{SIZE}", "--epochs", 1, "--batch-size", 8, "--precision", "float32"]
    return ["train", "--data", data, "--out", out, "--no-tensorboard", *common, *more]


def folder(root: Path, image: Callable[[int], Any], label: Callable[[int], Any]) -> Path:
    """Write 2 train and 2 val images of two classes, the first of which is the background."""
    for split in ("train", "val"):
        for kind, make in (("images", image), ("labels", label)):
            (root / kind / split).mkdir(parents=True)
            for index in range(2):
                Image.fromarray(make(index).astype(np.uint8)).save(root / kind / split / f"{index}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["background", "square"], "void_id": 255}))
    return root


def prepared(data: Path) -> Path:
    """Build the data set now: on a slow machine the command would tell its progress beside its error."""
    package.data.open(str(data)).samples("train")
    return data


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3)).astype(np.uint8)


def square(size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : -(size // 4), size // 4 : -(size // 4)] = 1
    return mask


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images of one colour: no superpixels and no object proposals in them."""
    root = tmp_path_factory.mktemp("flat") / "data"
    return folder(root, lambda _: np.full((SIZE, SIZE, 3), 128), lambda _: square())


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images that are far smaller than any receptive field, or without structure."""
    root = tmp_path_factory.mktemp("odd")
    for name, image in (
        ("dot", noise(1, 1)),
        ("strip", noise(3, 50)),
        ("small", noise(9, 7)),
        ("flat", np.full((40, 40, 3), 90, np.uint8)),
    ):
        Image.fromarray(image).save(root / f"{name}.png")
    return root


def trained(arguments: list[object], cache: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(cache))
        assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def patch_run(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on class-balanced patches."""
    out = tmp_path_factory.mktemp("patch") / "run"
    trained(start(data, out, *PATCH, "--sampling", "balanced-patches", "--samples-per-image", 8), cache)
    return out


@pytest.fixture(scope="module")
def staged_run(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent net on object crops, then on proposals."""
    root = tmp_path_factory.mktemp("staged")
    stages = [
        {"name": "objects", "crops": "objects", "crops_args": {"per_image": 1}},
        {"name": "proposals", "crops": "proposals", "crops_args": {"min_iou": 0.1, "per_image": 2}},
    ]
    (root / "stages.json").write_text(json.dumps(stages))
    trained(start(data, root / "run", *RECURRENT, "--limit", 3, "--stages", root / "stages.json"), cache)
    return root / "run"


def test_a_patch_net_from_patches_to_a_verified_int8_file(
    patch_run: Path, data: Path, tmp_path: Path, kseg: Kseg
) -> None:
    resumed = kseg("train", "--resume", "--out", patch_run)
    assert (resumed.code, "nothing is left to resume" in resumed.err) == (0, True)

    model, dense, int8 = patch_run / "model.keras", tmp_path / "dense.keras", tmp_path / "int8.tflite"
    assert kseg("rebuild", model, "--model-args", '{"output_stride": 1}', "--out", dense).code == 0
    stitched = tmp_path / "stitched.keras"
    change = '{"output_stride": 1, "evaluator": "stitch"}'
    assert kseg("rebuild", model, "--model-args", change, "--out", stitched).code == 0
    scores = [kseg("evaluate", file, "--data", data, "--json").json()["miou"] for file in (dense, stitched)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)

    scored = kseg("evaluate", model, "--data", data, "--refine", "superpixels", "--refine", "tree-cover")
    assert scored.code == 0
    assert "refined by superpixels, then tree-cover" in " ".join(scored.out.split())

    exported = ["export", model, "--data", data, "--precision", "int8", "--calibration-images", 4, "--out"]
    budget = ["--max-miou-drop", 5]
    assert kseg(*exported, int8, *budget).code == 0
    verified = kseg("verify", int8, "--reference", model, "--data", data, *budget, "--json").json()
    assert verified["passed"] is True
    rows = kseg("benchmark", model, int8, "--data", data, "--repeats", 1, "--json").json()
    assert [row["status"] for row in rows["rows"]] == ["measured", "measured"]
    assert (
        kseg("inspect", int8, "--json").json()["spec"]["recipe"]["arguments"]["sampling"]
        == "balanced-patches"
    )
    assert kseg("report", patch_run, "--examples", 1).code == 0
    assert leftovers(tmp_path) == []


def test_a_recurrent_net_in_two_stages_with_fewer_instances_and_by_proposals(
    staged_run: Path, patch_run: Path, data: Path, tmp_path: Path, kseg: Kseg
) -> None:
    first, second = (staged_run / stage / "model.keras" for stage in ("objects", "proposals"))
    assert package.load(second).spec.recipe["arguments"]["crops"] == "proposals"
    assert package.load(first).count_params() == package.load(second).count_params()
    resumed = kseg("train", "--resume", "--out", staged_run).error()
    assert "the stages objects, proposals" in resumed
    once = tmp_path / "once.keras"
    assert kseg("rebuild", second, "--model-args", '{"instances": 1}', "--out", once).code == 0
    assert "`instances`" in kseg("rebuild", second, "--model-args", '{"instances": 0}', "--out", once).error()
    assert (
        "the model itself"
        in kseg("rebuild", second, "--model-args", '{"instances": 1}', "--out", second).error()
    )
    wider = kseg("rebuild", second, "--model-args", '{"width": 0.4}', "--out", once).error()
    assert "width=0.4 has weights that the trained network lacks" in wider

    around = ["--proposals", "selective-search:count=3", "--ensemble", patch_run / "model.keras"]
    scored = kseg("evaluate", once, "--data", data, "--limit", 2, *around)
    assert scored.code == 0
    assert "proposals by selective-search, mean with" in " ".join(scored.out.split())

    onnx = tmp_path / "model.onnx"
    assert kseg("export", once, "--data", data, "--out", onnx).code == 0
    assert kseg("verify", onnx, "--reference", once, "--data", data).code == 0


@pytest.mark.parametrize("refine", ["superpixels", "superpixel-crf", "tree-cover", "dense-crf"])
def test_images_below_the_receptive_field_or_without_superpixels_are_predicted(
    refine: str, patch_run: Path, odd: Path, tmp_path: Path, kseg: Kseg
) -> None:
    model = patch_run / "model.keras"
    ran = kseg("predict", model, odd, "--out", tmp_path, "--write", "mask", "--refine", refine, "--json")
    assert ran.code == 0, ran.err
    for written in ran.json()["images"]:
        with Image.open(written["mask"]) as mask, Image.open(written["image"]) as image:
            assert mask.size == image.size
            assert np.asarray(mask).max() <= 1


PROPOSALS = ["--crops", "proposals"]
# What is wrong -> the arguments of train that say so, and what the error must name.
WRONG_TRAINING: dict[str, tuple[list[str], list[str]]] = {
    "crops of proposals, none found": ([*PATCH, *PROPOSALS], ["No proposal", "min_iou"]),
    "crop argument": ([*PATCH, *PROPOSALS, "--crops-args", '{"cuont": 1}'], ["Did you mean 'count'?"]),
    "crop argument out of range": (
        [*PATCH, *PROPOSALS, "--crops-args", '{"min_iou": 2}'],
        ["`min_iou`", "2"],
    ),
    "multiplier": ([*PATCH, "--lr-multipliers", '{"bias$": -1}'], ["bias$", "-1"]),
    "multiplier of nothing": ([*PATCH, "--lr-multipliers", '{"nosuch": 2}'], ["nosuch"]),
    "expression": ([*PATCH, "--lr-multipliers", '{"(": 2}'], ["'('"]),
    "frozen layer": ([*PATCH, "--freeze", "nosuch"], ["nosuch"]),
    "frozen expression": ([*PATCH, "--freeze", "("], ["'('"]),
    "start": ([*PATCH, "--init-from", "none.keras"], ["none.keras"]),
    "stages": ([*PATCH, "--stages", "none.json"], ["none.json"]),
    "samples of nothing": ([*PATCH, "--samples-per-image", "4"], ["`samples_per_image`", "`sampling`"]),
}


@pytest.mark.parametrize("wrong", WRONG_TRAINING)
def test_training_that_cannot_be_is_one_line_and_no_run_folder(
    wrong: str, flat: Path, tmp_path: Path, kseg: Kseg
) -> None:
    arguments, words = WRONG_TRAINING[wrong]
    line = kseg(*start(prepared(flat), tmp_path / "run", *arguments)).error()
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sampling", ["patches", "balanced-pixels"])
@pytest.mark.parametrize(("label", "found"), [(0, "are 'background'"), (255, "no pixel of any class")])
def test_sampling_one_class_or_none_is_one_line_and_no_run_folder(
    sampling: str, label: int, found: str, tmp_path: Path, kseg: Kseg
) -> None:
    data = folder(tmp_path / "data", lambda _: noise(SIZE, SIZE), lambda _: np.full((SIZE, SIZE), label))
    line = kseg(*start(prepared(data), tmp_path / "run", *PATCH, "--sampling", sampling)).error()
    assert found in line
    assert not (tmp_path / "run").exists()
