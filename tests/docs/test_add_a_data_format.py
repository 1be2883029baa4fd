"""docs/add-a-data-format.md: a format from outside the package is trained on, evaluated, checked, counted."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kseg import data
from kseg.cli import main as cli
from kseg.data.sources import formats
from kseg.errors import DataError, UsageError

PAGE = Path(__file__).resolve().parents[2].joinpath("docs/add-a-data-format.md")
CODE, ROW, USE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images with their masks and their list, which is the working folder's; the format, in the table."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(6):
        mask = np.zeros((40, 48), np.uint8)
        mask[8 : 20 + index, 10:30] = 1
        image = (mask[..., None] * 120 + rng.integers(0, 90, (40, 48, 3))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        Image.fromarray(mask).save(tmp_path / f"{index}_truth.png")
        lines.append(f"{'val' if index > 3 else 'train'} {index}.png {index}_truth.png")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("pairs_format")
    exec(compile(CODE, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "pairs_format", module)
    monkeypatch.setattr(formats, "FORMATS", dict(formats.FORMATS))
    return tmp_path


def test_the_page_runs_as_written(listed: Path) -> None:
    held: dict[str, object] = {}
    for block in (ROW, USE):
        exec(compile(block, str(PAGE), "exec"), held)
    assert set(held["scores"]) >= {"miou", "pixel_acc"}  # type: ignore[call-overload]
    assert held["train"].spec.data["kind"] == "pairs"  # type: ignore[attr-defined]


def test_every_reader_of_sources_knows_it(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(ROW, str(PAGE), "exec"), {})
    source = data.open("pairs:list.txt")
    pixels = sum(int((sample.mask == 1).sum()) for sample in source.samples("train"))
    assert cli.main(["class-weights", "pairs:list.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pixels"][1] == pixels
    assert data.check("pairs:list.txt").splits["train"].counts.pixels[1] == pixels
    with pytest.raises(DataError, match=r"no split 'trian'.*Did you mean 'train'"):
        source.samples("trian")
    with pytest.raises(UsageError, match="`palette`"):
        data.open("pairs:list.txt", palette=[(0, 0, 0), (1, 1, 1)])


def test_a_package_declares_it_by_an_entry_point(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="does not exist"):
        data.open("pairs:list.txt")
    point = importlib.metadata.EntryPoint("pairs", "pairs_format:Pairs", formats.GROUP)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda *, group: [point] if group == formats.GROUP else []
    )
    assert data.open("pairs:list.txt").splits == {"train": 4, "val": 2}
