"""`train` end to end on a small folder: files, resuming after a kill, refusals."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kseg
from kseg.cli.main import main
from kseg.errors import ArtefactError, DataError, UsageError
from kseg.interrupts import Interrupted
from kseg.metrics import near_chance
from kseg.training import TrainConfig, checkpoint, train, trainer

Finished = tuple[Path, dict, list[str]]
SPLITS = {"train": 12, "val": 4}


def make_folder(root: Path, splits: dict[str, int] = SPLITS, size: tuple[int, int] = (24, 32)) -> Path:
    """Write noisy images of coloured squares: three classes that a small network can tell apart."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            mask = rng.integers(0, 3, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            image = (mask[..., None] * 90 + rng.integers(0, 40, (*size, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "labels" / split / f"{index}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "void_id": 255}))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config(folder: Path, out: Path, **changes: object) -> TrainConfig:
    values = {
        "model": "unet",
        "model_args": {"width": 0.0625, "depth": 2, "dropout": 0.2},
        "data": str(folder),
        "out": str(out),
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 0.01,
        "ema": 0.9,
        "seed": 3,
        "tensorboard": False,
        **changes,
    }
    return TrainConfig(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[str]]:
    """One uninterrupted run: its folder, its result and what it said."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    lines: list[str] = []
    return out, train(config(folder, out), lines.append), lines


def history(out: Path) -> list[dict[str, str]]:
    with open(out / "history.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def state(out: Path) -> dict[str, np.ndarray]:
    stored = checkpoint.load(out)
    assert stored is not None
    return stored[1]


def assert_same_training(a: Path, b: Path) -> None:
    first, second = state(a), state(b)
    assert first.keys() == second.keys()
    assert any(name.startswith("average/") for name in first)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    shown = ("epoch", "loss", "val_loss", "val_miou", "learning_rate")
    rows_a, rows_b = ([[row[key] for key in shown] for row in history(run)] for run in (a, b))
    assert rows_a == rows_b
    saved_a, saved_b = (kseg.load(run / "model.keras").weights for run in (a, b))
    for one, other in zip(saved_a, saved_b, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))


def test_a_run_folder_has_model_history_and_record(finished: Finished, folder: Path) -> None:
    out, result, lines = finished
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["result"] == result
    assert record["versions"]["keras"] == keras.__version__
    assert record["resolved"]["total_steps"] == 9
    assert record["resolved"]["image_size"] == [24, 32]
    rows = history(out)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = max(float(row["val_miou"]) for row in rows)
    assert result["val_miou"] == pytest.approx(best)
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert result["beats_chance"] is not near_chance(result["val_miou"], result["chance_miou"])


def test_the_model_carries_its_spec_and_takes_any_size(finished: Finished) -> None:
    out, result, _ = finished
    model = kseg.load(out / "model.keras")
    spec = model.spec
    assert spec.classes == ("a", "b", "c")
    assert spec.architecture == "UNet"
    assert spec.arch_args["width"] == 0.0625
    assert spec.input_size == (24, 32)
    record = json.loads((out / "run.json").read_text())
    assert spec.data["fingerprint"] == record["data"]["fingerprint"]
    assert spec.recipe["seed"] == 3
    assert spec.recipe["result"]["val_miou"] == result["val_miou"]
    assert tuple(model.input_shape) == (None, None, None, 3)
    assert keras.ops.shape(model(np.zeros((1, 17, 41, 3), "float32"))) == (1, 17, 41, 3)


def test_local_paths_stay_in_the_run_folder(finished: Finished, folder: Path) -> None:
    out = finished[0]
    spec = kseg.load(out / "model.keras").spec
    assert spec.data["source"] == spec.recipe["arguments"]["data"] == folder.name
    assert str(folder.parent) not in spec.to_json()
    assert json.loads((out / "run.json").read_text())["data"]["source"] == str(folder)


def test_the_saved_score_is_that_of_the_saved_weights(finished: Finished, folder: Path) -> None:
    out, result, _ = finished
    model = kseg.load(out / "model.keras")
    batches = kseg.data.load(folder, "val", batch_size=4, normalization=model.spec.normalization)
    metric = kseg.metrics.MeanIoU(num_classes=3)
    for images, masks in (batches[i] for i in range(len(batches))):
        metric.update_state(masks, model(images))
    assert float(metric.result()) == pytest.approx(result["val_miou"], abs=1e-5)


def test_same_seed_same_weights(finished: Finished, folder: Path, tmp_path: Path) -> None:
    train(config(folder, tmp_path / "again"), lambda line: None)
    assert_same_training(finished[0], tmp_path / "again")


def test_kill_and_resume_ends_with_the_weights_of_an_uninterrupted_run(
    finished: Finished, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    arguments = config(folder, out).to_dict()
    # After its second checkpoint the process waits inside epoch 3, so that the kill cannot come too late.
    code = (
        "import json, sys, time\n"
        "from kseg.training import TrainConfig, divergence, train\n"
        "step = divergence.StopOnNaN.on_train_batch_end\n"
        "def slow(self, batch, logs=None):\n"
        "    step(self, batch, logs)\n"
        "    if self._epoch == 2 and batch == 1:\n"
        "        time.sleep(600)\n"
        "divergence.StopOnNaN.on_train_batch_end = slow\n"
        "train(TrainConfig.from_dict(json.loads(sys.argv[1])), print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(arguments)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (out / "history.csv").is_file() or len(history(out)) < 2:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "no two epochs within four minutes"
            time.sleep(0.1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(history(out)) == 2
    lines: list[str] = []
    train(config(folder, out, resume=True), lines.append)
    assert "resuming behind epoch 2 of 3" in lines
    assert_same_training(finished[0], out)
    assert len(json.loads((out / "run.json").read_text())["resumed"]) == 1


def test_a_folder_that_holds_no_run_is_not_resumed_into(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="nothing to resume"):
        train(config(folder, tmp_path / "photos", resume=True), print)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_finished_run_is_not_trained_further(finished: Finished, folder: Path) -> None:
    out, result, _ = finished
    before = (out / "model.keras").stat().st_mtime_ns
    lines: list[str] = []
    assert train(config(folder, out, resume=True), lines.append) == result
    assert "nothing is left" in lines[0]
    assert (out / "model.keras").stat().st_mtime_ns == before


def test_a_copied_run_names_its_own_model(finished: Finished, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    result = train(config(folder, out, resume=True), lambda line: None)
    assert result == {**finished[1], "model": str(out / "model.keras")}


def test_a_folder_in_use_is_refused(finished: Finished, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not empty: continue it with --resume"):
        train(config(folder, finished[0]))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty: give another --out"):
        train(config(folder, tmp_path))
    with pytest.raises(UsageError, match="is a file"):
        train(config(folder, tmp_path / "notes.txt"))


def test_a_second_training_in_one_folder_is_refused_while_the_first_lives(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    refused: list[str] = []

    def say(line: str) -> None:
        if line.startswith("epoch 1/"):
            for changes in ({}, {"resume": True}):
                with pytest.raises(
                    UsageError, match=f"is being written to by process {os.getpid()} on "
                ) as caught:
                    train(config(folder, out, epochs=1, **changes), lambda line: None)
                refused.append(str(caught.value))

    train(config(folder, out, epochs=1), say)
    assert len(refused) == 2
    assert all(str(out) in line for line in refused)
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


def test_of_two_trainings_that_start_together_one_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    results: list[dict] = []

    def say(line: str) -> None:
        # The last line before the run folder is made: here the other one overtakes.
        if line.startswith("precision "):
            results.append(train(config(folder, out, epochs=1, seed=8), lambda line: None))

    with pytest.raises(UsageError, match="no longer empty"):
        train(config(folder, out, epochs=1), say)
    record = json.loads((out / "run.json").read_text())
    assert (record["arguments"]["seed"], record["result"]) == (8, results[0])


def test_a_run_that_died_before_its_record_leaves_a_folder_that_can_be_used(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / ".lock").write_text("process 1 on another machine")
    assert train(config(folder, tmp_path, epochs=1), lambda line: None)["epochs"] == 1


def test_resuming_with_other_arguments_is_refused(finished: Finished, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"other arguments \(seed: 3 -> 4; epochs: 3 -> 9\)"):
        train(config(folder, finished[0], resume=True, epochs=9, seed=4))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """A run that Ctrl-C ended after its first epoch: its data, its folder and what it said."""
    root = tmp_path_factory.mktemp("interrupted")
    data = make_folder(root / "data", {"train": 4, "val": 2})
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        train(config(data, root / "run"), say)
    lines.append(str(stopped.value))
    return data, root / "run", lines


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(interrupted: tuple[Path, Path, list[str]]) -> None:
    _, out, lines = interrupted
    assert lines[-1] == f"interrupted after 1 finished epochs; go on with: kseg train --resume --out {out}"
    # Said once: by the exception, which the command line prints.
    assert sum("interrupted" in line for line in lines) == 1
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert kseg.load(out / "model.keras").spec.classes == ("a", "b", "c")
    assert [entry for entry in out.rglob("*") if entry.name.startswith(".kseg-")] == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kept", [0, 100])
def test_a_refused_checkpoint_leaves_the_run_as_it_was(
    kept: int, interrupted: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    data, run, _ = interrupted
    out = tmp_path / "cut"
    shutil.copytree(run, out)
    os.truncate(out / checkpoint.FILE, kept)
    before = contents(out)
    with pytest.raises(ArtefactError, match="Start again with another run folder"):
        train(config(data, out, resume=True), lambda line: None)
    assert contents(out) == before


@pytest.mark.parametrize(
    "model_args",
    [{"width": "a", "depth": 2, "dropout": 0.2}, {"width": 0.125, "depth": 2, "dropout": 0.2}, {"depth": 2}],
)
def test_a_record_that_contradicts_itself_is_not_resumed(
    model_args: dict[str, object],
    interrupted: tuple[Path, Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "edited"
    shutil.copytree(interrupted[1], out)
    record = json.loads((out / "run.json").read_text())
    record["arguments"] |= {"model_args": model_args, "epochs": 2}
    (out / "run.json").write_text(json.dumps(record))
    before = contents(out)
    assert main(["train", "--resume", "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "`resolved` keeps (width: 0.0625 -> " in said[0]
    assert contents(out) == before


def test_no_error_leaves_a_run_that_says_it_is_running(
    interrupted: tuple[Path, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, _ = interrupted
    out = tmp_path / "full"
    shutil.copytree(run, out)
    statuses: list[str] = []

    def full(*arguments: object) -> None:
        statuses.append(json.loads((out / "run.json").read_text())["status"])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer, "_fit", full)
    with pytest.raises(OSError, match="No space left"):
        train(config(data, out, resume=True), lambda line: None)
    statuses.append(json.loads((out / "run.json").read_text())["status"])
    assert statuses == ["running", "interrupted"]


def test_resuming_on_changed_data_is_refused(interrupted: tuple[Path, Path, list[str]]) -> None:
    data, out, _ = interrupted
    Image.new("RGB", (32, 24)).save(data / "images" / "train" / "new.png")
    Image.new("L", (32, 24)).save(data / "labels" / "train" / "new.png")
    with pytest.raises(DataError, match="changed since this run was started"):
        train(config(data, out, resume=True))


def test_a_wrong_argument_leaves_no_run_folder(folder: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"model": "unett"}, "Did you mean"),
        ({"loss": "crossentropie"}, "Unknown loss"),
        ({"model_args": {"widht": 1}}, "Did you mean 'width'"),
        ({"val_split": "validate"}, "no split"),
        ({"warmup_steps": 99}, "less than the 9 steps"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            train(config(folder, tmp_path / "run", **changes), lambda line: None)
        assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def unvalidated(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run in mixed precision on data without a val split."""
    root = tmp_path_factory.mktemp("unvalidated")
    data, lines = make_folder(root / "data", {"train": 4}), []
    changes = {"precision": "mixed_bfloat16", "epochs": 2, "tensorboard": None}
    result = train(config(data, root / "run", **changes), lines.append)
    return root / "run", result, lines


def test_mixed_precision_trains_and_saves_a_float32_model(unvalidated: Finished) -> None:
    out, _, lines = unvalidated
    assert "precision mixed_bfloat16: as asked" in lines
    model = kseg.load(out / "model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_tensorboard_files_are_written_where_it_is_installed(unvalidated: Finished) -> None:
    pytest.importorskip("tensorboard")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras writes these files with TensorFlow")
    assert list((unvalidated[0] / "tensorboard").rglob("events.out.tfevents.*"))


def test_no_val_split_keeps_the_latest_model_and_says_so(unvalidated: Finished) -> None:
    _, result, lines = unvalidated
    assert result["val_miou"] is None
    assert result["best_epoch"] == 2
    assert any("has no val split" in line for line in lines)
