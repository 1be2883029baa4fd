"""SDS by command on squares and discs: trained in phases, evaluated, refined or not, predicted, exported."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import regions
from PIL import Image

import deploy
import kseg
from kseg import data
from kseg.cli.main import main
from kseg.data.proposals import Proposer, StoredProposer
from kseg.errors import UsageError
from kseg.inference import Runtime, load_runtime
from kseg.instance.sds import training
from kseg.instance.sds.batches import RegionBatches
from kseg.instance.sds.candidates import Candidates
from kseg.instance.sds.config import SDSConfig
from kseg.instance.sds.phases import Phases
from kseg.instance.sds.predictor import RegionPredictor

pytest.importorskip("sklearn", reason="kseg[sds] is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return regions.folder(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    out = tmp_path_factory.mktemp("sds") / "run"
    words = (
        "--variant A --boundaries color --size 32 --width 0.0625 --epochs 4 --learning-rate 0.03 --regions 60"
    )
    assert main(["train-sds", "--data", str(folder), "--out", str(out), *words.split()]) == 0
    return out


@pytest.fixture(scope="module")
def runtime(run: Path) -> Runtime:
    return load_runtime(run / "model.keras")


def test_a_run_is_whole(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir() if path.name != ".lock") == [
        "history.csv", "model.keras", "run.json",
    ]  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert list(record["phases"]) == [
        "proposals", "box", "features", "svms", "refiner", "paste",
    ]  # fmt: skip
    history = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4"]
    assert {row["network"] for row in history} == {"box"}
    assert [float(row["loss"]) for row in history] == record["phases"]["box"]["loss"]
    spec = kseg.load(run / "model.keras").spec
    assert (spec.task, spec.architecture, spec.input_size) == ("proposals", "SDS", (32, 32))
    assert len(spec.recipe["sds"]["superpixels"]) == 2
    assert spec.recipe["sds"]["search"]["boundaries"] == "color"


def test_the_report_shows_curves_and_phases(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--examples", "1", "--out", str(page)]) == 0
    text = page.read_text()
    assert "Loss over epochs: train" in text
    assert "Regions classified right, % over epochs: train" in text
    phases = text.split("Phases of the training")[1].split("</section>")[0]
    names = re.findall(r"<tr><td>(\w+)</td>", phases)
    assert names == ["proposals", "box", "features", "svms", "refiner", "paste"]
    assert "images 6, objects 12" in phases
    assert re.search(r"loss \S+ to \S+, accuracy \S+ % to \S+ %; 4 epochs", phases)
    assert re.search(r"positives 12, negatives \d+<", phases)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("box", [("box", "box", 1)]),
        ("A", [("box", "box", 1)]),
        ("B", [("box", "box", 1), ("region", "region", 1)]),
        ("C", [("box", "box", 1), ("region", "region", 1), ("both", "region", 2)]),
    ],
)
def test_variants_tune_other_networks_by_other_overlaps(
    variant: str, expected: list, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network is, by which overlap its crops are labelled, how many pathways it has; C begins as B."""
    seen, biases = [], []

    def tuned(network: keras.Model, batches: RegionBatches, *, name: str, **_: object) -> dict:
        layer = network.get_layer("logits")
        biases.append(float(layer.get_weights()[1][0]))
        layer.set_weights([layer.get_weights()[0], np.full(3, 2.0 * len(biases), np.float32)])
        pathways = sum(each.name in ("box_fc", "region_fc") for each in network.layers)
        seen.append((name.removeprefix("pathway ").removesuffix(" pathways"), batches.by, pathways))
        return {"loss": [], "accuracy": []}

    monkeypatch.setattr(training, "tune", tuned)
    config = SDSConfig(data=str(folder), out=str(tmp_path / "run"), variant=variant, size=32, width=0.0625)
    samples = data.open(folder).samples("train", limit=2)
    proposer = StoredProposer(Proposer(method="regions", boundaries="color"))
    candidates = Candidates(samples, proposer, 10, samples.spec, (32, 32))
    system = training._System(config, samples.spec.replace(task="proposals"), lambda line: None)
    with Phases(config, {}, lambda line: None) as phases:
        system.tune(phases, candidates)
    assert seen == expected
    assert biases == [0.0, 0.0, 3.0][: len(expected)]
    made = system.whole().get_layer("logits").get_weights()[1][0]
    assert made == {"box": 2.0, "A": 2.0, "B": 3.0, "C": 6.0}[variant]


def test_evaluation_finds_the_shapes(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run / "model.keras"), "--data", str(folder)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objects"] == 12
    assert found["apr50"] > 0.6
    assert found["options"] == {"unrefined": False, "regions": None, "suppress": None}
    assert main([*words, "--unrefined", "--regions", "9", "--limit", "1"]) == 0
    assert "regions as proposed" in capsys.readouterr().out
    assert main([*words, "--flip"]) == 2
    assert "'proposals' has no --flip" in capsys.readouterr().err


def test_options_of_the_predictor(runtime: Runtime, folder: Path) -> None:
    image = data.open(folder).samples("val")[0].image
    given = RegionPredictor(runtime).outputs(image)
    found = {
        name: RegionPredictor(runtime, **options).decide(given)
        for name, options in {
            "as it is": {}, "unrefined": {"refine": False}, "boxes": {"suppress": "boxes"},
            "few": {"detections": 1}, "sure": {"at_least": 0.9},
        }.items()
    }  # fmt: skip
    assert len(found["unrefined"]) == len(found["as it is"]) < len(found["boxes"])
    assert len(found["few"]) == 1
    assert (found["sure"].scores >= 0.9).all()
    assert (found["as it is"].scores >= 0.25).all()
    assert len(RegionPredictor(runtime, count=3).outputs(image)["boxes"]) == 3
    with pytest.raises(UsageError, match="Received: size=\\(64, 64\\)"):
        RegionPredictor(runtime, size=(64, 64))
    with pytest.raises(UsageError, match="`suppress` must be one of regions, boxes"):
        RegionPredictor(runtime, suppress="region")


def test_what_stays_is_disjoint_and_refined_regions_are_superpixels(runtime: Runtime, folder: Path) -> None:
    given = RegionPredictor(runtime).outputs(data.open(folder).samples("val")[0].image)
    superpixels = given["superpixels"]
    areas = np.bincount(superpixels.reshape(-1))
    for refine in (False, True):
        found = RegionPredictor(runtime, refine=refine).decide(given)
        for index in range(len(found)):
            inside = np.bincount(superpixels[found.mask(index)], minlength=len(areas))
            assert set(np.unique(inside / areas)) <= {0, 1}
        if not refine:
            for kind in (1, 2):
                masks = [found.mask(index) for index in np.flatnonzero(found.classes == kind)]
                assert not masks or np.sum(masks, axis=0).max() == 1


def test_a_picture_without_contrast(runtime: Runtime) -> None:
    found = RegionPredictor(runtime)(np.full((40, 30, 3), 90, np.uint8))[0]
    assert found.size == (40, 30)
    assert len(found) <= 2


def test_predict_writes_the_semantic_output(run: Path, folder: Path, tmp_path: Path) -> None:
    image = folder / "images" / "val" / "0.png"
    words = ["predict", str(run / "model.keras"), str(image), "--out", str(tmp_path), "--write", "mask,coco"]
    assert main(words) == 0
    picture = np.asarray(Image.open(tmp_path / "0_mask.png"))
    assert picture.shape == (regions.SIDE, regions.SIDE)
    assert set(np.unique(picture)) <= {0, 1, 2}
    assert json.loads((tmp_path / "0_coco.json").read_text())


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_artefacts_say_the_same(run: Path, runtime: Runtime, folder: Path, target: str) -> None:
    out = str(run / "exports" / f"m.{target}")
    assert main(["export", str(run / "model.keras"), "--to", target, "--no-verify", "--out", out]) == 0
    image = data.open(folder).samples("val")[0].image
    one, other = (RegionPredictor(each, count=12).outputs(image) for each in (runtime, out))
    for name in ("logits", "margins", "coarse"):
        np.testing.assert_allclose(one[name], other[name], atol=2e-3, rtol=1e-3)


def test_int8_learns_from_regions_drawn_from_all_images(
    run: Path, runtime: Runtime, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ranges hold what any region has, not the zeros of a batch's end; the heads stay in float."""
    out = run / "exports" / "int8.tflite"
    words = ["--to", "tflite", "--precision", "int8", "--data", str(folder), "--no-verify", "--out", str(out)]
    assert main(["export", str(run / "model.keras"), *words]) == 0
    record = deploy.read_spec(out).export["calibration"]
    assert (record["images"], record["inputs"]) == (6, 6 * 16)
    assert "widest of all" in record["method"]
    image = data.open(folder).samples("val")[0].image
    one, other = (RegionPredictor(each, count=30).outputs(image) for each in (runtime, str(out)))
    for name in ("logits", "margins", "coarse"):
        assert np.sqrt(np.mean((one[name] - other[name]) ** 2)) < 0.1 * one[name].std()
    tensors = deploy.load(out)._interpreter.get_tensor_details()
    halves = {tensor["name"]: tensor["dtype"] for tensor in tensors}
    assert all(kind == np.float32 for name, kind in halves.items() if "coarse_1/MatMul" in name)


def test_a_run_goes_on_behind_what_is_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = {
        "data": str(folder), "out": str(out), "variant": "box", "boundaries": "color", "size": 32,
        "width": 0.0625, "epochs": 1, "regions": 20, "limit": 3, "refiner": False,
    }  # fmt: skip

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_svms", stopped)
        with pytest.raises(
            KeyboardInterrupt, match="features done; go on with: kseg train-sds --resume --out"
        ):
            training.train_sds(SDSConfig(**given), say=lambda line: None)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    tuned = kseg.load(out / "phases" / "box.keras").get_layer("box_fc").get_weights()
    again = SDSConfig(**given)
    with pytest.raises(UsageError, match="is not empty: continue it with --resume"):
        training.train_sds(again)
    other = SDSConfig(**{**given, "epochs": 2, "resume": True})
    with pytest.raises(UsageError, match="was started with another epochs"):
        training.train_sds(other)
    assert main(["train-sds", "--resume", "--out", str(out)]) == 0
    assert "box: done before" in capsys.readouterr().err
    model = kseg.load(out / "model.keras")
    for before, after in zip(tuned, model.get_layer("box_fc").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert set(model.output) == {"logits", "margins"}
    assert main(["train-sds", "--resume", "--out", str(out)]) == 2
    assert "is finished: nothing is left to resume" in capsys.readouterr().err
    assert main(["train-sds", "--resume", "--data", str(folder), "--out", str(tmp_path / "none")]) == 2
    assert "There is nothing to resume" in capsys.readouterr().err


def test_other_roads_say_where_to_go(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--data", str(folder), "--out", str(tmp_path / "run")]
    assert main(["train", "--model", "sds", *out]) == 2
    assert "Run: kseg train-sds --data DIR --out RUN" in capsys.readouterr().err
    assert main(["train-sds", *out, "--proposals", "edge-boxes"]) == 2
    assert "edge-boxes gives boxes. Use variant='box'" in capsys.readouterr().err
    assert main(["train-sds", *out, "--size", "40", "--boundaries", "color"]) == 2
    assert "sides are multiples of 32" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
