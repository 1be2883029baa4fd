"""`kseg convert-data`: what it prints, its exit codes, and the pages that show it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from kseg.cli import convert_data
from kseg.cli import main as cli
from kseg.data.convert import FORMATS

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "data" / "convert"))
import foreign  # noqa: E402


def test_it_prints_what_became_of_the_data_and_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.labelme(tmp_path / "from")
    out = tmp_path / "out"
    assert cli.main(["convert-data", str(tmp_path / "from"), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "labelme to" in printed.out
    assert "split by seed 0: " in printed.out
    assert "left out: 1 images without a JSON file" in printed.out
    assert printed.err.splitlines() == ["converting images: 4 …", f"next: kseg check-data {out}"]
    assert cli.main(["check-data", str(out)]) == 0


def test_json_stands_alone_and_names_what_was_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.labelme(tmp_path / "from")
    (tmp_path / "from" / "walk_001.json").write_text("[]")
    words = ["convert-data", str(tmp_path / "from"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("kseg: ")
    assert "walk_001.json" in line
    assert not (tmp_path / "out").exists()
    assert cli.main([*words, "--skip-bad", "--json", "--split", "50/50"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["format"] == "labelme"
    assert {name: split["images"] for name, split in values["splits"].items()} == {"train": 2, "val": 1}
    assert len(values["bad"]) == 1
    assert "walk_001.json" in values["bad"][0]


def test_the_help_and_the_page_name_every_format() -> None:
    assert set(convert_data._FORMATS) == {*FORMATS, "auto"}
    page = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    for line in commands:
        words = shlex.split(line, comments=True)
        cli._parse(words[1], words[2:])
    shown = {word for line in commands for word in line.split()}
    assert set(FORMATS) <= shown
