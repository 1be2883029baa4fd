"""File and class names with control characters: shown escaped, in terminals, pictures and pages."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

import kseg
from kseg import output, viz
from kseg.cli.main import main
from kseg.errors import DataError
from kseg.spec import Spec
from kseg.text import printable

NASTY = "road\n\x1b[31mred\x07\u202eeolc\x9b5n"
SPEC = Spec(classes=("ground", NASTY), input_size=(16, 16))


def clean(text: str) -> bool:
    return all(printable(line) == line for line in text.splitlines())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    image = keras.Input((None, None, 3), name="image")
    network = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    path = tmp_path / f"m{NASTY}.keras"
    kseg.save(network, path, SPEC)
    return path


def test_inspect_and_predict(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / f"p{NASTY}.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    assert main(["inspect", str(model)]) == 0
    assert main(["inspect", str(model), "--full"]) == 0
    assert main(["predict", str(model), str(picture), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert clean(printed.out), printed.out
    assert clean(printed.err), printed.err
    assert printed.out.replace("\n", "").count("road\\n\\x1b[31m") >= 4


def test_json_keeps_the_name_itself(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["classes"][1] == NASTY


def test_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"m\xff.keras")
    assert main(["inspect", str(tmp_path / name)]) == 2
    output.print_json({"name": name})
    printed = capsys.readouterr()
    assert json.loads(printed.out)["name"] == name
    assert "m\\udcff.keras" in printed.err


@pytest.mark.parametrize("show", [output.error_line, output.closing_line])
def test_lines(show: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show(f"a {NASTY} b")
    assert clean(capsys.readouterr().err)
    assert "\x1b" not in str(DataError(NASTY))


def test_tables_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=60)
    console.push_render_hook(output._Escape())
    table = Table("name")
    table.add_row("x\x1b[2Jy")
    console.print(table)
    console.print("a\x1b]0;title\x07b")
    assert clean(stream.getvalue()), stream.getvalue()
    monkeypatch.setattr(output, "errors", console)
    assert list(output.progress([1], 1, f"[bold]{NASTY}")) == [1]
    assert clean(stream.getvalue())
    assert "[bold]road" in stream.getvalue()


def test_legends_have_one_line_per_class() -> None:
    plain = viz.legend(SPEC.replace(classes=("ground", "road")), [0, 1], width=60)
    assert viz.legend(SPEC, [0, 1], width=60).shape == plain.shape
    mask = np.ones((16, 16), np.uint8)
    image = np.zeros((16, 16, 3), np.uint8)
    assert viz.side_by_side(image, mask, mask, SPEC).ndim == 3


def test_report_pages(tmp_path: Path) -> None:
    mask = np.ones((16, 16), np.uint8)
    page = viz.write_report(
        tmp_path / "r.html",
        title="t",
        spec=SPEC,
        examples=[("x", np.zeros((16, 16, 3), np.uint8), mask, mask)],
        scores={"val": {"iou": [0.5, 0.5], "acc": [0.5, 0.5], "matrix": [[1, 0], [0, 1]]}},
    ).read_text()
    assert "\x1b" not in page
    assert "road\\n\\x1b[31m" in page


def test_names_at_the_limit_of_the_file_system(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    for name in ("a" * 251, "b" * 230, "c"):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(pictures / f"{name}.png")
    assert main(["predict", str(model), str(pictures), "--out", str(tmp_path / "out"), "--json"]) == 2
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert [Path(entry["image"]).stem for entry in told["images"]] == ["b" * 230, "c"]
    assert [Path(entry["image"]).stem for entry in told["failed"]] == ["a" * 251]
    assert ".kseg-" not in printed.err
