"""The command line's frame: help, unknown names, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import shlex
import subprocess
import sys

import pytest

from kseg.cli import main as cli
from kseg.errors import GateError, UsageError
from kseg.interrupts import Interrupted


@pytest.mark.parametrize("command", cli.commands())
def test_every_command_explains_itself_with_an_example_that_parses(command, capsys):
    module = cli._load(command)
    words = shlex.split(module.EXAMPLE)
    assert words[:2] == ["kseg", command]
    cli._parse(command, words[2:])
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert module.EXAMPLE in printed
    assert module.HELP.split()[0] in printed


def test_overview_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.commands())


def test_no_command_is_a_usage_error_that_shows_the_overview(capsys):
    assert cli.main([]) == 2
    assert "quickstart" in capsys.readouterr().out


def test_unknown_command_names_the_nearest(capsys):
    assert cli.main(["evalute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err


def test_unknown_argument_is_one_line_with_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["models", "--no-such-thing"])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "--no-such-thing" in lines[0]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("Argument `x` must be 1.\nReceived: x=2"), 2, "must be 1.\\nReceived"),
        (GateError("mIoU fell"), 1, "mIoU fell"),
        (KeyboardInterrupt(), 130, "interrupted; files already finished are whole"),
        (Interrupted("interrupted after 2; go on"), 130, "kseg: interrupted after 2; go on"),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 2, 'pip install "kseg[train]"'),
        (ModuleNotFoundError("No module named 'kseg.x'", name="kseg.x"), 70, "internal error"),
        (OSError(errno.ENOSPC, "No space left on device", "out.tflite"), 2, "no space left"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.png"), 2, "x.png"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(monkeypatch, capsys, error, code, words):
    class Failing:
        HELP = "fails"
        EXAMPLE = "kseg models"

        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None:
            """No arguments."""

        @staticmethod
        def run(args: argparse.Namespace) -> int:
            raise error

    monkeypatch.setattr(cli, "_load", lambda command: Failing)
    assert cli.main(["models"]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


def test_help_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys; from kseg.cli.main import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("value", [str(2**40), "-1", "9" * 5000, "1.5"])
@pytest.mark.parametrize(
    "words",
    [
        ["train-segments", "m.keras", "--data", "d", "--out", "s.keras"],
        ["train-sds", "--data", "d", "--out", "run"],
        ["export", "m.keras", "--to", "onnx", "--out", "m.onnx"],
        ["benchmark", "m.keras"],
    ],
)
def test_a_seed_that_numpy_does_not_take_is_one_line(words, value, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--seed", value])
    assert caught.value.code == 2
    assert "argument --seed" in " ".join(capsys.readouterr().err.split())
