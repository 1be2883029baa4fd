"""An encoder that starts pretrained learns at a lower rate, unless the user says otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import pytest
from test_train import assert_same_training, config, make_folder

import kseg
from kseg.errors import UsageError
from kseg.models import create
from kseg.training import TrainConfig, train
from kseg.training.compiled import Networks
from kseg.training.config import ENCODER_RATE
from kseg.training.feeds import make_feeds
from kseg.training.multipliers import encoder_factors
from kseg.training.settled import look, settle_numbers

FCN: dict[str, Any] = {
    "model": "fcn32s",
    "encoder": "resnet18",
    "model_args": {"width": 0.125, "head_channels": 16, "dropout": 0.0},
    "epochs": 2,
}
LINE = f"encoder at {ENCODER_RATE} of the learning rate"


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("pretrained") / "squares", {"train": 6, "val": 2}, (32, 32))


def network_file(path: Path, encoder: str) -> str:
    keras.utils.set_random_seed(0)
    model = create("fcn32s", num_classes=2, encoder=encoder, width=0.125, head_channels=8)
    kseg.save(model, path, spec=kseg.Spec(classes=("one", "other")))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return network_file(tmp_path_factory.mktemp("weights") / "fcn.keras", "resnet18")


@pytest.fixture(scope="module")
def finished(squares: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    said: list[str] = []
    train(config(squares, out, weights=weights, **FCN), said.append)
    return out, said


def factors(wanted: TrainConfig) -> dict[str, float]:
    """Factor on the rate of each variable, by path."""
    ground = look(wanted, None, quiet)
    settled = settle_numbers(wanted, ground, make_feeds(wanted, ground, 4), 4)
    fitted = Networks(wanted, ground).chosen(settled)
    optimizer = fitted.form.optimizer
    optimizer.build(fitted.form.trainable_variables)
    found = getattr(optimizer, "_factors", [1.0] * len(fitted.form.trainable_variables))
    return dict(zip((item.path for item in fitted.form.trainable_variables), found, strict=True))


def test_the_factor_is_between_a_tenth_and_a_third() -> None:
    assert 0.1 <= ENCODER_RATE <= 1 / 3


def test_a_pretrained_encoder_and_nothing_else_learns_at_a_lower_rate(
    squares: Path, tmp_path: Path, weights: str
) -> None:
    found = factors(config(squares, tmp_path, weights=weights, **FCN))
    head = {path for path in found if path.startswith(("fc6", "score"))}
    assert head
    assert {found[path] for path in head} == {1.0}
    assert {factor for path, factor in found.items() if path not in head} == {ENCODER_RATE}


@pytest.mark.parametrize("changes", [{}, {"lr_multipliers": {"^score": 2.0}}])
def test_without_weights_or_with_the_users_factors_there_is_none(
    squares: Path, tmp_path: Path, weights: str, changes: dict
) -> None:
    given = {**changes, "weights": weights} if changes else {}
    found = factors(config(squares, tmp_path, **FCN, **given))
    assert {path: factor for path, factor in found.items() if factor != 1} == (
        {path: 2.0 for path in found if path.startswith("score")} if changes else {}
    )


def test_weights_of_a_whole_network_are_no_encoders(squares: Path, tmp_path: Path) -> None:
    arguments = {"width": 0.0625, "depth": 2}
    create("unet", num_classes=3, **arguments).save_weights(tmp_path / "unet.weights.h5")
    wanted = config(squares, tmp_path, model_args=arguments, weights=str(tmp_path / "unet.weights.h5"))
    assert look(wanted, None, quiet).encoder_rate == 1
    assert set(factors(wanted).values()) == {1.0}


def test_the_start_and_the_record_say_it(finished: tuple[Path, list[str]], weights: str) -> None:
    out, said = finished
    (line,) = [line for line in said if line.startswith("encoder at")]
    assert line.startswith(LINE)
    assert weights in line
    assert "--lr-multipliers" in line
    assert json.loads((out / "run.json").read_text())["resolved"]["encoder_rate"] == ENCODER_RATE
    assert kseg.saving.read_spec(out / "model.keras").recipe["resolved"]["encoder_rate"] == ENCODER_RATE


def test_other_runs_do_not_say_it(squares: Path, tmp_path: Path) -> None:
    said: list[str] = []
    train(config(squares, tmp_path / "run", **{**FCN, "epochs": 1}), said.append)
    assert not [line for line in said if line.startswith("encoder at")]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["resolved"]["encoder_rate"] == 1


@pytest.fixture(scope="module")
def interrupted(squares: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped behind its first epoch."""
    out = tmp_path_factory.mktemp("interrupted") / "run"

    def stop(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(squares, out, weights=weights, **FCN), stop)
    return out


def recorded_as(interrupted: Path, out: Path, rate: Any) -> None:
    """Copy the interrupted run, with another factor in its record; None: without one."""
    shutil.copytree(interrupted, out)
    record = json.loads((out / "run.json").read_text())
    record["resolved"]["encoder_rate"] = rate
    if rate is None:
        del record["resolved"]["encoder_rate"]
    (out / "run.json").write_text(json.dumps(record))


def test_a_resumed_run_ends_like_an_uninterrupted_one(
    finished: tuple[Path, list[str]], interrupted: Path, squares: Path, tmp_path: Path, weights: str
) -> None:
    out = tmp_path / "run"
    recorded_as(interrupted, out, ENCODER_RATE)
    train(config(squares, out, weights=weights, resume=True, **FCN), quiet)
    assert_same_training(finished[0], out)


@pytest.mark.parametrize("recorded", [None, 0.2])
def test_a_resumed_run_keeps_what_it_was_started_with(
    interrupted: Path, squares: Path, tmp_path: Path, weights: str, recorded: float | None
) -> None:
    """Records of before there was a factor have none: their encoders learn like all others."""
    out = tmp_path / "run"
    recorded_as(interrupted, out, recorded)
    said: list[str] = []
    train(config(squares, out, weights=weights, resume=True, **FCN), said.append)
    assert [line[:17] for line in said if line.startswith("encoder at")] == (
        [] if recorded is None else ["encoder at 0.2 of"]
    )
    assert json.loads((out / "run.json").read_text())["resolved"]["encoder_rate"] == (recorded or 1)


@pytest.mark.parametrize(("rate", "message"), [("slow", "expected a number"), (-1.0, "a number > 0")])
def test_a_record_with_another_thing_for_a_factor_is_refused(
    interrupted: Path, squares: Path, tmp_path: Path, weights: str, rate: Any, message: str
) -> None:
    out = tmp_path / "run"
    recorded_as(interrupted, out, rate)
    with pytest.raises(UsageError, match=message):
        train(config(squares, out, weights=weights, resume=True, **FCN), quiet)


def test_frozen_layers_have_no_factor(weights: str) -> None:
    model = create("fcn32s", num_classes=2, encoder="resnet18", width=0.125, head_channels=8, weights=weights)
    found = encoder_factors(model, 0.5)
    assert set(found.values()) == {0.5}
    assert not [path for path in found if path.startswith("score")]
    assert encoder_factors(model, 1.0) == {}
    model.trainable = False
    assert encoder_factors(model, 0.5) == {}


def test_images_are_normalised_as_the_weights_expect(squares: Path, tmp_path: Path) -> None:
    weights = network_file(tmp_path / "lite.keras", "efficientnetlite0")
    wanted = config(squares, tmp_path, weights=weights, **{**FCN, "encoder": "efficientnetlite0"})
    normalization = look(wanted, None, quiet).spec.normalization
    assert (normalization.mean, normalization.std) == ((127.0,) * 3, (128.0,) * 3)
