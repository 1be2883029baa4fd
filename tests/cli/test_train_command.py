"""The options of `kseg train` and how they become a TrainConfig."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from kseg.cli import train as command
from kseg.cli.main import add_command_arguments, main
from kseg.errors import UsageError
from kseg.semantic.options import proposals as proposal_options
from kseg.training import record


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_only_model_data_and_out_are_needed() -> None:
    config = command.to_config(parse("--model", "fcn8s", "--data", "D", "--out", "R"))
    assert (config.model, config.data, config.out) == ("fcn8s", "D", "R")
    assert config.epochs == 30


def test_every_option_reaches_the_config() -> None:
    text = (
        "--model resunet --data D --out R --encoder e --weights imagenet --size 360x480 --resize fit "
        "--crop 240x320 --train-split train[:90%] --val-split train[90%:] --epochs 60 --batch-size 4 "
        "--limit 9 --val-limit 3 --seed 5 --loss cross_entropy+dice --class-weights enet "
        "--class-weights-power 0.5 "
        "--optimizer sgd --learning-rate 2e-3 --weight-decay 0.05 --clip-norm 1 --schedule poly "
        "--warmup-steps 150 --ema 0.998 --precision mixed_bfloat16 --flip 0.5 --scale 0.667-1.5 "
        "--rotation 5 --color 0.2 "
        "--patience 7 --val-every 5 --cache memory --no-tensorboard"
    )
    arguments = [*text.split(), "--model-args", '{"width": 0.5}', "--loss-args", '{"gamma": 2}']
    config = command.to_config(parse(*arguments))
    assert config.size == (360, 480)
    assert config.crop == (240, 320)
    assert config.model_args == {"width": 0.5}
    assert config.augment_args == {"flip": 0.5, "scale": [0.667, 1.5], "rotation": 5.0, "color": 0.2}
    assert (config.learning_rate, config.weight_decay, config.ema) == (2e-3, 0.05, 0.998)
    assert (config.train_split, config.val_split) == ("train[:90%]", "train[90%:]")
    assert config.tensorboard is False
    assert config.loss_args == {"gamma": 2}


def test_resuming_takes_what_was_not_given_from_the_run(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    first = command.to_config(parse("--model", "unet", "--data", "D", "--epochs", "7", *out))
    record.write(tmp_path, {"arguments": first.to_dict()})
    again = command.to_config(parse("--resume", *out))
    assert again.resume
    assert again.differences(first) == []
    other = command.to_config(parse("--resume", "--epochs", "8", *out))
    assert other.differences(first) == ["epochs: 7 -> 8"]


def test_missing_and_contradicting_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing --model and --data"):
        command.to_config(parse("--resume", "--out", str(tmp_path)))
    with pytest.raises(UsageError, match="--no-augment excludes --flip"):
        command.to_config(parse("--model", "m", "--data", "d", "--out", "o", "--no-augment", "--flip", "0.5"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "360by480", "HEIGHTxWIDTH"),
        ("--crop", "0x5", "HEIGHTxWIDTH"),
        ("--epochs", "0", "whole number >= 1"),
        ("--model-args", "width=2", "is not valid JSON"),
        ("--model-args", "[1]", "expected an object, found a list"),
        ("--scale", "2-1", "no range of scales"),
        ("--precision", "float16", "invalid choice"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--model", "unet", "--data", "d", "--out", "o", option, value])
    assert caught.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--learning-rate", "inf", "`learning_rate` must be a number > 0 and <= 10000000000"),
        ("--learning-rate", "nan", "learning_rate=nan"),
        ("--learning-rate", "-1", "learning_rate=-1.0"),
        ("--seed", str(2**40), "`seed` must be a whole number >= 0 and <= 4294967295"),
        ("--seed", "9" * 5000, "expected a whole number >= 0"),
        ("--epochs", "9" * 15, "`epochs` must be"),
        ("--batch-size", str(10**9), "`batch_size` must be"),
        ("--size", "99999999x99999999", "`size` must be"),
        ("--size", "30000x30000", "900,000,000 pixels"),
    ],
)
def test_absurd_numbers_are_one_line_that_names_the_range(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    try:
        code = main(["train", "--model", "unet", "--data", "sample:nuclei", "--out", str(out), option, value])
    except SystemExit as left:
        code = left.code
    assert code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "internal error" not in error
    assert len(error) < 300
    assert not out.exists()


def test_a_step_beyond_all_memory_is_refused_before_it_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--model", "unet", "--data", "sample:nuclei", "--out", str(tmp_path / "run")]
    assert main([*words, "--size", "8192x8192"]) == 2
    assert "8 images of 8192 x 8192 have 536,870,912 pixels" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_model_is_one_line_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--model", "fnc8s", "--data", "sample:nuclei", "--out", str(out)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "Did you mean" in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    "words", [["train", "--size"], ["export", "m.keras", "--size"], ["models", "--size"]]
)
def test_a_single_number_is_a_square_in_every_command(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_command_arguments(words[0], parser)
    assert parser.parse_args([*words[1:], "96"]).size == (96, 96)
    assert parser.parse_args([*words[1:], "360X480"]).size == (360, 480)


def test_proposals_take_a_square_too() -> None:
    assert proposal_options.parse("edge-boxes:size=96")["size"] == (96, 96)


def test_a_finished_run_without_splits_is_told_all_the_same(tmp_path, capsys) -> None:
    """Its `run.json` may have been cut: the line that says how to go on names the training split."""
    out = tmp_path / "run"
    words = ["train", "--model", "unet", "--data", "sample:nuclei", "--limit", "4", "--val-limit", "2"]
    words += ["--model-args", '{"width": 0.0625, "depth": 2}', "--size", "32x32", "--resize", "fit"]
    assert main([*words, "--epochs", "1", "--batch-size", "2", "--out", str(out)]) == 0
    record = json.loads((out / "run.json").read_text())
    record["data"]["splits"] = {}
    (out / "run.json").write_text(json.dumps(record))
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "--split train" in capsys.readouterr().err
