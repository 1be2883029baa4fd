"""Runs that train another form of the network: patches, several heads, crops, stages."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_train import assert_same_training, config, make_folder

import kseg
from kseg.cli.main import main
from kseg.data.counting import counts
from kseg.errors import DataError, UsageError
from kseg.training import TrainConfig, train
from kseg.training.plan import make_plan
from kseg.training.stages import read_stages, train_stages

PATCH: dict[str, Any] = {"model": "patchnet", "model_args": {"width": 0.125}, "sampling": "balanced-patches"}


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("forms") / "squares", {"train": 6, "val": 2}, (40, 48))


def patches(folder: Path, out: Path, **changes: Any) -> TrainConfig:
    values = {**PATCH, "samples_per_image": 16, "batch_size": 32, "epochs": 2, "ema": 0.5, **changes}
    return config(folder, out, **values)


def test_a_patch_net_is_trained_on_patches_and_scored_on_whole_images(squares: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = train(patches(squares, tmp_path / "run"), said.append)
    assert any(line.startswith("epoch 2/2") and "patches/s" in line for line in said)
    assert result["steps"] == 2 * (6 * 16 // 32)
    assert 0 <= result["val_miou"] <= 1
    with open(tmp_path / "run" / "history.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert all(float(row["val_loss"]) > 0 for row in rows)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["resolved"]["class_weights"] is None
    model = kseg.load(tmp_path / "run" / "model.keras")
    assert model.output_shape == (None, None, None, 3)


def test_a_resumed_run_on_patches_ends_like_an_uninterrupted_one(squares: Path, tmp_path: Path) -> None:
    train(patches(squares, tmp_path / "whole"), quiet)

    def stop(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(patches(squares, tmp_path / "parts"), stop)
    train(patches(squares, tmp_path / "parts", resume=True), quiet)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("sampling", ["all", "balanced-pixels", "patches"])
def test_every_instance_of_a_recurrent_net_has_its_loss(squares: Path, tmp_path: Path, sampling: str) -> None:
    changes: dict[str, Any] = {"model": "recurrentcnn", "model_args": {"features": [4, 4], "instances": 2}}
    out = tmp_path / "run"
    changes |= {"sampling": sampling, "batch_size": 4, "epochs": 1}
    train(patches(squares, out, **changes, samples_per_image=None if sampling == "all" else 16), quiet)
    row = next(csv.DictReader((out / "history.csv").read_text().splitlines()))
    parts = [float(row["logits_loss"]), float(row["instance1_loss"])]
    assert float(row["loss"]) == pytest.approx(sum(parts), rel=0.05)
    assert {"miou", "val_miou", "val_loss"} <= set(row)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "unet", "model_args": {"width": 0.125}}, "unet has no patch form"),
        ({"crops": "objects"}, "`crops` and `sampling` exclude each other"),
        ({"freeze": "nothing"}, "no layer with weights"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_folder(
    squares: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(patches(squares, tmp_path / "run", **changes), quiet)
    assert not (tmp_path / "run").exists()


def stages_file(path: Path) -> Path:
    stages = [{"name": "first"}, {"name": "second", "freeze": "^down", "epochs": 2}]
    path.write_text(json.dumps(stages))
    return path


def test_a_stage_starts_from_the_one_before(squares: Path, tmp_path: Path) -> None:
    common = {**config(squares, tmp_path / "runs", epochs=1, ema=0.0).to_dict()}
    stages = read_stages(str(stages_file(tmp_path / "stages.json")), common)
    said: list[str] = []
    results = train_stages(stages, said.append)
    heads = [line.split(":")[0] for line in said if line.startswith("stage")]
    assert heads == ["stage 1 of 2", "stage 2 of 2"]
    first, second = (kseg.load(result["model"]) for result in results)
    for layer in first.layers:
        pairs = zip(layer.get_weights(), second.get_layer(layer.name).get_weights(), strict=True)
        same = [np.array_equal(mine, theirs) for mine, theirs in pairs]
        if layer.name.startswith("down") and same:
            assert all(same), layer.name
    assert not np.array_equal(
        first.get_layer("score").get_weights()[0], second.get_layer("score").get_weights()[0]
    )
    assert second.spec.recipe["arguments"]["init_from"] == "model.keras"


@pytest.mark.parametrize("text", ["{}", "[]", '[{"model": "unet"}]', "no json"])
def test_a_wrong_list_of_stages_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "stages.json").write_text(text)
    assert main(["train", "--stages", str(tmp_path / "stages.json"), "--out", str(tmp_path / "r")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_stages_need_folders_of_their_own(squares: Path, tmp_path: Path) -> None:
    stage = config(squares, tmp_path / "same")
    with pytest.raises(UsageError, match="folder of its own"):
        train_stages([stage, stage])
    with pytest.raises(UsageError, match="at least one"):
        train_stages([])


def test_object_crops_train_on_one_class_and_void(squares: Path, tmp_path: Path) -> None:
    result = train(config(squares, tmp_path / "run", crops="objects", crop=(16, 16), epochs=1), quiet)
    assert result["val_miou"] is not None


def test_batch_normalisation_is_measured_anew(squares: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "plain", tmp_path / "measured"]
    for out, count in zip(runs, (0, 4), strict=True):
        train(config(squares, out, epochs=1, bn_batches=count), quiet)
    plain, measured = (kseg.load(run / "model.keras") for run in runs)
    changed = set()
    for mine, theirs in zip(plain.weights, measured.weights, strict=True):
        if not np.array_equal(mine.numpy(), theirs.numpy()):
            changed.add(mine.name)
    assert changed == {"moving_mean", "moving_variance"}


def test_images_get_the_normalisation_that_the_network_was_told(squares: Path, tmp_path: Path) -> None:
    """FarabetNet undoes it before it turns the image to YUV."""
    told = {"order": "bgr", "mean": [0.0, 10.0, 20.0], "std": [50.0, 60.0, 70.0]}
    arguments = {"width": 0.25, "normalization": told}
    wanted = config(squares, tmp_path / "run", model="farabetnet", model_args=arguments)
    plan = make_plan(wanted, None, quiet)
    assert plan.spec.normalization == kseg.spec.Normalization(**told)


CAFFE = kseg.spec.Normalization(order="bgr", mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
FCN: dict[str, Any] = {"encoder": "resnet18", "model_args": {"width": 0.125, "head_channels": 16}}


@pytest.fixture
def pretrained(squares: Path, tmp_path: Path) -> str:
    """An FCN-32s that was trained on images as Caffe has them."""
    model = kseg.models.FCN32s(num_classes=3, encoder="resnet18", width=0.125, head_channels=16)
    spec = kseg.data.open(str(squares)).spec.replace(normalization=CAFFE)
    kseg.save(model, tmp_path / "before.keras", spec=spec)
    return str(tmp_path / "before.keras")


def test_a_network_goes_on_with_the_normalisation_that_its_weights_have_learned(
    squares: Path, tmp_path: Path, pretrained: str
) -> None:
    wanted = config(squares, tmp_path / "run", model="fcn16s", init_from=pretrained, **FCN)
    plan = make_plan(wanted, None, quiet)
    assert plan.spec.normalization == CAFFE
    crf = {"base": "FCN32s", "base_args": FCN["model_args"]}
    wanted = config(
        squares, tmp_path / "run", model="crfrnn", encoder="resnet18", model_args=crf, init_from=pretrained
    )
    assert make_plan(wanted, None, quiet).arguments["std"] == [1.0, 1.0, 1.0]
    record = {"resolved": plan.to_dict(), "data": plan.data_record}
    gone = config(squares, tmp_path / "run", model="fcn16s", init_from="gone.keras", resume=True, **FCN)
    assert make_plan(gone, record, quiet).spec.normalization == CAFFE


def test_two_normalisations_at_once_are_refused(squares: Path, tmp_path: Path, pretrained: str) -> None:
    arguments = {"width": 0.25, "normalization": {"order": "rgb"}}
    wanted = config(squares, tmp_path / "run", model="farabetnet", model_args=arguments, init_from=pretrained)
    with pytest.raises(UsageError, match=r"bgr mean \(104.*the argument `normalization` wants rgb"):
        make_plan(wanted, None, quiet)


@pytest.mark.parametrize("model", ["fcn16s", "crfrnn"])
def test_a_second_head_is_trained_beside_the_first(squares: Path, tmp_path: Path, model: str) -> None:
    head = {"geometric_classes": 2, "geometric_labels": [0, 1, 1], "output_head": "geometric"}
    arguments = head if model == "fcn16s" else {"base": "FCN16s", "base_args": head}
    with pytest.raises(UsageError, match=r"trained as .semantic.*kseg rebuild"):
        train(config(squares, tmp_path / "run", model=model, model_args=arguments), quiet)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sampling", ["patches", "balanced-patches", "pixels", "balanced-pixels"])
def test_a_split_of_one_class_is_refused_for_sampling(tmp_path: Path, sampling: str) -> None:
    from PIL import Image

    folder = make_folder(tmp_path / "one", {"train": 2, "val": 1}, (40, 48))
    for path in (folder / "labels" / "train").iterdir():
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(path)
    with pytest.raises(DataError, match="All valid pixels of split 'train' are 'a'"):
        train(patches(folder, tmp_path / "run", sampling=sampling), quiet)
    assert not (tmp_path / "run").exists()


def test_a_run_killed_in_its_first_epoch_starts_from_the_given_weights_again(
    squares: Path, tmp_path: Path
) -> None:
    train(config(squares, tmp_path / "before", epochs=1), quiet)
    start = {"init_from": str(tmp_path / "before" / "model.keras"), "epochs": 1}
    lines: list[str] = []
    train(config(squares, tmp_path / "whole", **start), quiet)
    (tmp_path / "parts").mkdir()
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    (tmp_path / "parts" / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    train(config(squares, tmp_path / "parts", **start, resume=True), lines.append)
    assert any(line.startswith("weights of") for line in lines)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment_args": {"rotation": 8.0}}, "mirrored and nothing else.*`rotation`"),
        ({"bn_batches": 2}, "no batch normalisation"),
        ({"lr_multipliers": {"bias$": "two"}}, "positive number"),
    ],
)
def test_what_a_patch_run_cannot_do_is_said_before_it_starts(
    squares: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(patches(squares, tmp_path / "run", **changes), quiet)
    assert not (tmp_path / "run").exists()


def test_class_weights_of_training_are_those_of_the_command(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where there are more images than the survey of their sizes looks at."""
    monkeypatch.setattr(counts, "SURVEYED", 2)
    wanted = config(squares, tmp_path / "run", class_weights="inverse", class_weights_power=0.5)
    plan = make_plan(wanted, None, quiet)
    asked = ["class-weights", str(squares), "--scheme", "inverse", "--power", "0.5", "--mean-one", "--json"]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)["weights"]
    assert plan.class_weights == [round(weight, 6) for weight in told]
