"""A loss that leaves and stays away is an error; a noisy start is none."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from test_train import config, make_folder

import kseg
from kseg import records
from kseg.metrics import chance_miou
from kseg.training import StopOnDivergence, TrainingDivergedError, checkpoint, train, trainer

STEPS = 4


def fed(
    epochs: list[list[float]], of: int | None = None, watch: StopOnDivergence | None = None
) -> StopOnDivergence:
    """Run the callback over the losses of the steps of each epoch, as Keras would."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    watch = watch or StopOnDivergence("cross_entropy")
    watch.set_model(model)
    watch.set_params({"epochs": of or len(epochs), "steps": STEPS})
    for epoch, losses in enumerate(epochs):
        watch.on_epoch_begin(epoch)
        for step in range(len(losses)):
            watch.on_train_batch_end(step, {"loss": float(np.mean(losses[: step + 1]))})
        watch.on_epoch_end(epoch, {})
        if model.stop_training:
            break
    return watch


GOOD, BAD = [0.7, 0.6, 0.6, 0.5], [1e30] * STEPS


@pytest.mark.parametrize(
    "epochs",
    [
        [GOOD, GOOD],
        [[0.7, 5e4, 1e3, 2.0], GOOD],  # a peak of the first steps
        [[0.7, 9e3, 9e3, 0.6], GOOD],
        [[0.7, 1e5, 2.0, 0.7]],  # the same in a run of one epoch
        [BAD, BAD, GOOD, GOOD],  # it came back
        [[0.02, 0.6, 0.6, 0.5], GOOD],  # a warm restart
        [[0.0, 0.7, 0.7, 0.7], GOOD],  # a first batch that is all void
        [[4.0] * STEPS, [90.0] * STEPS],  # large class weights: noise
    ],
)
def test_what_comes_back_is_no_divergence(epochs: list[list[float]]) -> None:
    fed(epochs).judge()


@pytest.mark.parametrize("epochs", [[[0.7, *BAD[1:]]], [GOOD, BAD], [GOOD, GOOD, [0.5, 40.0, 60.0, 80.0]]])
def test_a_loss_that_stays_far_above_its_start_is_an_error_at_the_end(epochs: list[list[float]]) -> None:
    with pytest.raises(TrainingDivergedError) as caught:
        fed(epochs).judge()
    for part in ("diverged", "(cross_entropy) began at 0.7", "did not come back", "--learning-rate"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1


def test_it_is_stopped_after_a_fifth_of_the_run() -> None:
    watch = fed([GOOD, *[BAD] * 40], of=40)
    assert (watch.in_a_row, watch.model.stop_training) == (8, True)


def test_resuming_remembers_where_the_loss_began() -> None:
    first = fed([[0.7, *BAD[1:]]], of=20)
    second = StopOnDivergence("cross_entropy")
    second.restore(records.parse(json.dumps(first.state()), checkpoint.Divergence, where="meta"))
    with pytest.raises(TrainingDivergedError, match=r"began at 0\.7"):
        second.judge()
    assert fed([BAD] * 3, of=20, watch=second).in_a_row == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))


def test_a_learning_rate_of_a_billion_is_an_error_and_keeps_no_network(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    absurd = config(folder, tmp_path / "run", learning_rate=1e9, epochs=2, ema=0)
    with pytest.raises(TrainingDivergedError):
        train(absurd, lines.append)
    assert not (tmp_path / "run" / "model.keras").exists()
    assert "(best)" not in "".join(lines)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "diverged"
    # Nothing is left to train, and still it is no finished run.
    if checkpoint.load(tmp_path / "run") is not None:
        with pytest.raises(TrainingDivergedError):
            train(config(folder, tmp_path / "run", learning_rate=1e9, epochs=2, ema=0, resume=True), print)


def test_a_good_network_is_not_overwritten_by_a_diverged_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a val split the latest network is kept: the latest of those that have not diverged."""
    data = make_folder(tmp_path / "data", {"train": 8})

    class Explode(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if epoch == 2:
                for variable in self.model.trainable_variables:
                    variable.assign(variable * 1e6)

    monkeypatch.setattr(trainer, "Anneal", lambda network, epochs: Explode())
    with pytest.raises(TrainingDivergedError):
        train(config(data, tmp_path / "run", epochs=3, ema=0, augment=False), lambda line: None)
    kept = kseg.load(tmp_path / "run" / "model.keras")
    assert kept.spec.recipe["result"]["epoch"] == 2


def test_a_network_that_learned_nothing_is_said_to_be_no_better_than_chance(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kseg.cli.main import main

    words = [
        "train",
        "--model",
        "unet",
        "--data",
        str(folder),
        "--out",
        str(tmp_path / "run"),
        "--epochs",
        "1",
    ]
    words += ["--model-args", '{"width": 0.0625, "depth": 1}', "--learning-rate", "1e-12", "--no-tensorboard"]
    assert main(words) == 0
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    out = " ".join(capsys.readouterr().out.split())
    chance = result["chance_miou"]
    assert f"no better than what can be had without looking at the image ({100 * chance:.2f} %)" in out
    assert f"val mIoU {100 * result['val_miou']:.2f} %" in out
    assert result["beats_chance"] is False
    truth = np.zeros(3, int)
    for path in (folder / "labels" / "val").iterdir():
        truth += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=3)
    assert chance == pytest.approx(chance_miou(truth))
