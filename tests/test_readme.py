"""What README and docs show is what runs: the code blocks are executed, the commands parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kseg.cli import main as cli

ROOT = Path(__file__).parent.parent


def _blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_three_jobs_run_as_written(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.chdir(tmp_path)
    blocks = _blocks("README.md", "python")
    assert len(blocks) == 3
    held: dict[str, object] = {}
    for block in blocks:
        # One epoch shows that the code runs; the int8 gate is not asked of so young a network.
        young = block.replace("epochs=30", "epochs=1").replace(
            'calibration="sample:nuclei")',
            'calibration="sample:nuclei", max_miou_drop=100.0, allow_near_chance=True)',
        )
        exec(compile(young, "README.md", "exec"), held)
    assert held["picture"].shape == held["image"].shape  # type: ignore[attr-defined]
    assert held["checked"].images == 10  # type: ignore[attr-defined]
    assert (tmp_path / "model_int8.tflite").stat().st_size < (tmp_path / "model.keras").stat().st_size


@pytest.mark.parametrize("file", ["README.md"])
def test_every_command_shown_parses(file):
    lines = [line for block in _blocks(file, "sh") for line in block.splitlines() if line.startswith("kseg ")]
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line, comments=True)
        cli._parse(words[1], words[2:])


def test_a_model_is_added_in_two_files_as_the_page_says(tmp_path, monkeypatch):
    from kseg.models import registry

    model, test, _ = _blocks("docs/add-a-model.md", "python")
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(registry, "_KEYS", dict(registry._KEYS))
    exec(compile(model, "docs/add-a-model.md", "exec"), {"__name__": "tinynet"})
    network = registry.create("tiny", num_classes=3, width=0.5)
    assert network.info.architecture == "TinyNet"
    assert network.info.stride == 4
    assert network(network.inputs[0]).shape[-1] == 3
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "models"))
    held: dict[str, object] = {}
    exec(compile(test, "docs/add-a-model.md", "exec"), held)
    assert held["TestTinyNet"].architecture == "TinyNet"  # type: ignore[attr-defined]
