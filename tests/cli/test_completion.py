"""Completion as bash asks for it, and that it never waits for Keras."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kseg.cli import completion
from kseg.cli.main import main
from kseg.encoders import names as encoder_names
from kseg.losses.registry import names as loss_names
from kseg.models import names as model_names

ROOT = Path(__file__).resolve().parents[2]
# Stands for the installed command, and fails where Keras or TensorFlow is imported.
COMMAND = """#!{python}
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "jax", "matplotlib", "tensorflow_datasets"):
            open({log!r}, "a").write(name + "\\n")
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {root!r})
from kseg.cli.main import main
sys.exit(main())
"""
ASK = """
eval "$(kseg completion bash)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
_python_argcomplete kseg
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def ask(tmp_path):
    """What a real bash offers for a line, with the names of what was refused to be imported."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    folder, log = tmp_path / "bin", tmp_path / "refused"
    folder.mkdir()
    script = folder / "kseg"
    script.write_text(COMMAND.format(python=sys.executable, log=str(log), root=str(ROOT)))
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def offered(line: str) -> list[str]:
        ran = subprocess.run(
            [bash, "-c", ASK, "bash", line],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=tmp_path,
        )
        assert not log.exists(), log.read_text()
        return [word.strip() for word in ran.stdout.splitlines() if word.strip()]

    return offered


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kseg tra", ["train", "train-segments", "train-sds"]),
        ("kseg train --model fcn8", ["fcn8s", "fcn8satonce"]),
        ("kseg models textonb", ["textonboost"]),
        ("kseg train --encoder mobile", ["mobilenetv3", "mobilenetv3small"]),
        ("kseg train --opti", ["--optimizer"]),
        ("kseg train --optimizer s", ["sgd"]),
        ("kseg train --loss j", ["jaccard"]),
        ("kseg train --data sa", ["sample:nuclei"]),
        ("kseg export m.keras --to ", ["tflite", "onnx", "tensorrt", "tensorrt-rtx"]),
        ("kseg export m.keras --to onnx --precision ", ["float32", "float16"]),
        ("kseg evaluate m.keras --data sample:nuclei --split ", ["train", "val"]),
        ("kseg predict m.keras --refine den", ["dense-crf"]),
        ("kseg completion f", ["fish"]),
    ],
)
def test_bash_is_offered_what_fits(ask, line, expected):
    found = ask(line)
    assert set(expected) <= set(found)
    assert not [word for word in found if word not in expected and not word.startswith("--")]


def test_splits_and_files_come_from_the_disk(ask, tmp_path):
    for split in ("train", "night"):
        (tmp_path / "data" / "images" / split).mkdir(parents=True)
    (tmp_path / "model_a.tflite").write_bytes(b"")
    assert set(ask("kseg evaluate m.keras --data data --split ")) == {"night", "train"}
    assert ask("kseg inspect model_") == ["model_a.tflite"]


def test_lists_are_those_of_the_registries():
    assert completion.models() == sorted(name.lower() for name in model_names())
    assert list(completion.ENCODERS) == encoder_names()
    assert list(completion.LOSSES) == loss_names()


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_code_of_each_shell_goes_to_stdout_and_the_line_to_stderr(shell, capsys):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr()
    assert "kseg" in printed.out
    assert "_ARGCOMPLETE" in printed.out
    assert f"kseg completion {shell}" in " ".join(printed.err.split())
