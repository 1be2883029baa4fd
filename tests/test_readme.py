"""What README and docs show is what runs: the code blocks are executed, the commands parsed."""

from __future__ import annotations

import json
import re
import shlex
import sys
import types
from pathlib import Path

import keras
import pytest

from kseg.cli import main as cli

ROOT = Path(__file__).parent.parent
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))


def _blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)


def _commands(file: str) -> list[str]:
    """Return the commands of kseg that a page shows, in blocks of the shell or of no language."""
    text = (ROOT / file).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    shown = "".join(block for language, block in blocks if language in ("", "sh"))
    return [line for line in shown.replace("\\\n", " ").splitlines() if line.startswith("kseg ")]


@pytest.mark.slow
def test_the_three_jobs_run_as_written_and_end_in_a_good_network(tmp_path, monkeypatch, capsys):
    """What a person copies: nothing is replaced, no seed is set, threads are TensorFlow's own choice."""
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.chdir(tmp_path)
    blocks = _blocks("README.md", "python")
    assert len(blocks) == 3
    held: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), held)
    assert held["picture"].shape == held["image"].shape  # type: ignore[attr-defined]
    assert held["checked"].status == "passed"  # type: ignore[attr-defined]
    assert (tmp_path / "model_int8.tflite").stat().st_size < (tmp_path / "model.keras").stat().st_size
    for file in ("model.keras", "model_int8.tflite"):
        out = str(tmp_path / "scores.json")
        assert cli.main(["evaluate", file, "--data", "sample:nuclei", "--out", out]) == 0
        assert json.loads(Path(out).read_text())["miou"] >= 0.80, file


@pytest.mark.parametrize("file", ["README.md", *PAGES])
def test_every_command_shown_parses(file):
    for line in _commands(file):
        words = shlex.split(line, comments=True)
        cli._parse(words[1], words[2:])


def test_the_commands_of_the_pages_are_found():
    assert len(_commands("README.md")) >= 8
    assert len(_commands("docs/lecture.md")) >= 8
    assert len(_commands("docs/upsampling.md")) >= 2


def test_every_python_block_of_a_page_has_a_test_that_names_the_page():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    pages = [page for page in ("README.md", *PAGES) if _blocks(page, "python")]
    assert {"README.md", "docs/add-a-model.md", "docs/upsampling.md"} <= set(pages)
    assert [page for page in pages if f'_blocks("{page}"' not in tests and f'"{page}"' not in tests] == []


def test_the_page_about_upsampling_runs_as_it_says(tmp_path, monkeypatch):
    import kseg

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "32s").mkdir(parents=True)
    # As thin as it goes: the page's network over VGG16 has 134 million parameters.
    coarse = kseg.models.FCN32s(num_classes=11, width=0.03)
    kseg.save(coarse, "runs/32s/model.keras", spec=kseg.Spec(classes=tuple("abcdefghijk")))
    transferred, generated = _blocks("docs/upsampling.md", "python")
    held: dict[str, object] = {"kseg": kseg}
    exec(compile(transferred.replace("num_classes=11", "num_classes=11, width=0.03"), "page", "exec"), held)
    exec(compile(generated, "page", "exec"), held)
    kernels = [network.get_layer("fc6").get_weights()[0] for network in (coarse, held["fcn16s"])]
    assert (kernels[0] == kernels[1]).all()
    assert held["pictures"].shape == (8, 64, 64, 3)  # type: ignore[attr-defined]
    trainable = sum(int(variable.size) for variable in _variables(held["generator"]))
    assert trainable == 18_885_760


def _variables(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


def test_a_model_is_added_in_two_files_as_the_page_says(tmp_path, monkeypatch):
    from kseg.models import registry

    model, test, listed = _blocks("docs/add-a-model.md", "python")
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(registry, "_KEYS", dict(registry._KEYS))
    module = types.ModuleType("kseg.models.semantic.tinynet")
    exec(compile(model, "docs/add-a-model.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    named: dict[str, object] = {}
    exec(compile(listed, "docs/add-a-model.md", "exec"), named)
    assert named["TinyNet"] is module.__dict__["TinyNet"]
    network = registry.create("tiny", num_classes=3, width=0.5)
    assert network.info.architecture == "TinyNet"
    assert network.info.stride == 4
    assert network(network.inputs[0]).shape[-1] == 3
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "models" / "semantic"))
    held: dict[str, object] = {}
    exec(compile(test, "docs/add-a-model.md", "exec"), held)
    assert held["TestTinyNet"].architecture == "TinyNet"  # type: ignore[attr-defined]
