"""A run given as a file: YAML, JSON, an earlier run's record; what is wrong with one is one line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import keras
import pytest
from test_train import assert_same_training, config, make_folder

from kseg.cli import train as command
from kseg.cli.main import main
from kseg.data.crops import KINDS
from kseg.errors import UsageError
from kseg.training import schedules, train
from kseg.training.config import OPTIONS, TrainConfig
from kseg.training.config_file import read_arguments
from kseg.training.feeds import CROPS
from kseg.training.optimizers import OPTIMIZERS, SCHEDULES

YAML = """\
# a comment
model: unet
model_args: {width: 0.25, depth: 2}
data: sample:nuclei
size: 96
crop: 64x48
learning_rate: 1e-3
xla: off
track: [wandb]
augment: false
ema: null
"""


def parsed(*words: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.to_config(parser.parse_args(words))


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    return path


def test_yaml_gives_the_arguments_and_the_command_line_wins(run_yaml: Path) -> None:
    config = parsed("--config", str(run_yaml), "--out", "R", "--crop", "32", "--augment", "--flip", "0.5")
    assert (config.model, config.data, config.out) == ("unet", "sample:nuclei", "R")
    assert (config.size, config.crop) == ((96, 96), (32, 32))
    assert config.model_args == {"width": 0.25, "depth": 2}
    assert (config.learning_rate, config.xla, config.track) == (1e-3, "off", ("wandb",))
    assert config.augment
    assert config.augment_args == {"flip": 0.5}


def test_an_argument_that_needs_another_may_get_it_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"model": "unet", "data": "D", "out": "R", "samples_per_image": 8}))
    assert parsed("--config", str(path), "--sampling", "pixels").samples_per_image == 8
    with pytest.raises(UsageError, match="`samples_per_image` needs `sampling`"):
        parsed("--config", str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", ["`epoch`", "Did you mean 'epochs'?"]),
        ("epochs: ten", ["`epochs`", "expected a whole number", "found text", "'ten'"]),
        ("epochs: 0", ["`epochs` must be a whole number >= 1", "epochs=0"]),
        ("learning_rate: yes", ["`learning_rate`", "expected a number", "found text"]),
        ("optimizer: sdg", ["`optimizer` must be one of adamw, adam, sgd", "Did you mean 'sgd'"]),
        ("size: 12y", ["`size`", "HEIGHTxWIDTH", "'12y'"]),
        ("size: [1]", ["`size`"]),
        ("ema: .nan", ["`ema`", "expected a number"]),
        ("clip_norm: 1e999", ["not valid YAML"]),
        ("model_args: [1]", ["`model_args`", "expected an object, found a list"]),
        ("epochs: 3\nepochs: 4", ["not valid YAML", "'epochs' is there twice", "line 2"]),
        ("loss_args: &a {b: 1}\nmodel_args: *a", ["aliases", "line 2"]),
        ("model: !!python/name:os.system", ["tags", "line 1"]),
        ("model: !!timestamp now", ["tags", "line 1"]),
        ("model: [", ["not valid YAML", "line"]),
        ("- epochs", ["expected an object, found a list"]),
        ("model_args: " + "[" * 5000, ["run.yaml"]),
        ("\x00", ["run.yaml"]),
    ],
)
def test_a_wrong_file_is_one_line_and_exit_code_2(
    text: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(text)
    assert main(["train", "--model", "unet", "--data", "D", "--out", str(out), "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "internal error" not in error
    told = " ".join(error.split())
    for word in ["run.yaml", *words]:
        assert word in told
    assert not out.exists()


def test_a_nul_is_refused_before_anything_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text('out: "a\\0b"')
    assert main(["train", "--model", "unet", "--data", "D", "--config", str(path)]) == 2
    assert "Argument `out` must not hold a NUL" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "nowhere.json"]) == 2
    assert "'nowhere.json' does not exist" in capsys.readouterr().err


def test_what_is_missing_everywhere_is_said(run_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(run_yaml)]) == 2
    assert "missing --out" in capsys.readouterr().err


def test_a_run_from_its_own_record_has_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSEG_CACHE", str(tmp_path / "cache"))
    folder = make_folder(tmp_path / "squares")
    first, again, shorter = (tmp_path / name for name in ("first", "again", "shorter"))
    train(config(folder, first, epochs=2, precision="float32", crop=(16, 24)), lambda line: None)
    record = first / "run.json"
    assert "resume" not in read_arguments(record)
    assert main(["train", "--config", str(record), "--out", str(again)]) == 0
    assert_same_training(first, again)
    assert main(["train", "--config", str(record), "--out", str(shorter), "--epochs", "1"]) == 0
    assert json.loads((shorter / "run.json").read_text())["result"]["epochs"] == 1


def test_every_argument_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, option in OPTIONS.items():
        for part in option.parts or (name,):
            assert f"--{part.replace('_', '-')}" in told
    assert "(default: 30)" in told
    assert "`" not in told


def test_choices_are_what_the_rooms_can_make() -> None:
    assert tuple(KINDS) == CROPS
    assert all(hasattr(keras.optimizers, name) for name in OPTIMIZERS.values())
    assert all(hasattr(schedules, name) for name in SCHEDULES.values())
    assert all(f"{name}: " in (TrainConfig.__doc__ or "") for name in OPTIONS)
