"""`classes.json`, id maps and palette files: types and ranges, and messages that name the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kseg.cli.main import main
from kseg.data.pictures.palette import Palette
from kseg.data.sources import classes_file
from kseg.errors import DataError, UsageError

GOOD: dict[str, Any] = {
    "classes": ["a", "b"],
    "palette": [[1, 2, 3], "#0a141e"],
    "void_id": 255,
    "id_map": {"7": 1, "-1": 255},
}


def test_a_good_file_comes_as_it_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text("\ufeff" + json.dumps({**GOOD, "void_color": "0000ff", "new": [1]}), encoding="utf-8")
    assert classes_file.read(file) == {
        "classes": ["a", "b"],
        "palette": [(1, 2, 3), (10, 20, 30)],
        "void_id": 255,
        "void_color": (0, 0, 255),
        "id_map": {7: 1, -1: 255},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": "a"}, "field `classes`: expected a list or null, found text. Received: 'a'"),
        ({"classes": []}, "field `classes`: expected a list of length >= 1"),
        ({"classes": ["a", 5]}, "field `classes[1]`: expected text, found a whole number. Received: 5"),
        ({"classes": ["a", ""]}, "field `classes[1]`: expected text of length >= 1"),
        ({"classes": ["a", " \n"]}, "field `classes[1]`: expected text matching"),
        ({"classes": ["a", "b", "a"]}, "field `classes`: names must be distinct. Received twice: 'a'"),
        ({"classes": ["x" * 300]}, "length <= 256"),
        ({"palette": [[1, 2]]}, "field `palette[0]`: expected a list of length 3"),
        ({"palette": [[1, 2, 256]]}, "field `palette[0][2]`: expected a whole number <= 255. Received: 256"),
        ({"palette": [[1, 2, -1]]}, "field `palette[0][2]`: expected a whole number >= 0"),
        ({"palette": [[1, 2, 3.5]]}, "field `palette[0][2]`: expected a whole number, found a number"),
        ({"palette": ["#12345"]}, "field `palette[0]`: expected text matching"),
        ({"void_id": -1}, "field `void_id`: expected a whole number >= 0"),
        ({"void_id": 65_536}, "field `void_id`: expected a whole number <= 65535"),
        ({"void_id": True}, "field `void_id`: expected a whole number or null, found true or false"),
        ({"void_color": [0, 0]}, "field `void_color`: expected a list of length 3"),
        ({"color_masks": 1}, "field `color_masks`: expected true or false or null, found a whole number"),
        ({"id_map": {"7": 70_000}}, "expected a whole number <= 65535"),
        ({"id_map": {"seven": 1}}, "expected a whole number, found text"),
        ({"id_map": {"7": "1"}}, "expected a whole number, found text"),
        ({"label_space": 5}, "field `label_space`: expected text or null"),
        ({"truth": "both"}, "field `truth`"),
        ({"mask_orientation": "up"}, "field `mask_orientation`"),
        ({"classes": [["a"] * 3]}, "field `classes[0]`: expected text, found a list"),
    ],
)
def test_each_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DataError) as caught:
        classes_file.read(file)
    message = str(caught.value)
    assert message.startswith(f"'{file}': ")
    assert said in message
    assert message.isprintable()


def test_id_maps_as_arguments() -> None:
    given = {np.uint8(7): np.int64(1), "8": "2", 9: 255}
    assert classes_file.id_map(given, UsageError) == {7: 1, 8: 2, 9: 255}
    assert classes_file.id_map(None, UsageError) is None
    assert classes_file.id_map({}, UsageError) == {}
    for wrong in ([1], {7: -1}, {7: 70_000}, {7: 1.5}, {None: 1}, {"x": 1}, {2**40: 1}, 5):
        with pytest.raises(UsageError, match="Argument `id_map`"):
            classes_file.id_map(wrong, UsageError)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["[", "[1]", '{"a": 1}', '{"1": -1}', '{"1": NaN}', "9" * 5000, "[" * 9999, ""]
)
def test_id_maps_of_the_command_line(tmp_path: Path, text: str, capsys: Any) -> None:
    assert main(["check-data", str(tmp_path), "--id-map", text]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "--id-map" in said[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"road": [1, 2, 300]}', "`road[2]`|<= 255"),
        ('{"road": [1, 2, 3], "car": null}', "found null"),
        ('[{"name": 5, "color": [1, 2, 3]}]', r"`\[0\].name`: expected text"),
        ('[{"name": "a"}]', "missing required field `color`"),
        ('[{"name": "a", "color": "#000000"}', "is not valid JSON"),
        ("[[[[[[", "expected an object, found a list"),
        ('{"classes": ["a"], "palette": [[1, 2, 3], [4, 5, 6]]}', "2 colours for 1 classes"),
        ('{"classes": ["a"]}', "missing required field `palette`"),
        ("1 2 3 road\n4 5 car\n", "line 2 is not a name and three numbers"),
        ("1 2 3 a\n1 2 999999999999999999 road", "line 2 is not a name"),
        ("\x00\x01\x02", "no colours"),
    ],
)
def test_palette_files_name_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        Palette.from_file(tmp_path / "p")
    assert str(caught.value).isprintable()


def test_a_palette_of_a_hundred_thousand_names_takes_no_minute(tmp_path: Path) -> None:
    rows = [f"{n >> 16 & 255} {n >> 8 & 255} {n & 255} name{n}" for n in range(100_000)]
    (tmp_path / "p").write_text("\n".join(rows))
    assert len(Palette.from_file(tmp_path / "p").names) == 100_000


def test_a_typing_mistake_is_refused_and_a_field_of_another_program_is_not(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text('{"classes": ["a", "b"], "palete": [[0, 0, 0], [1, 1, 1]]}')
    with pytest.raises(DataError, match=r"has no field `palete`. Did you mean 'palette'"):
        classes_file.read(file)
    for other in ("xyz_http", "void_name", "num_classes", "class_colors", "ids"):
        file.write_text(json.dumps({"classes": ["a", "b"], other: "void"}))
        assert classes_file.read(file)["classes"] == ["a", "b"]
    for mistake in ("class", "void_ids", "void_colour", "idmap", "labelspace", "colour_masks"):
        file.write_text(json.dumps({"classes": ["a", "b"], mistake: 1}))
        with pytest.raises(DataError, match="Did you mean"):
            classes_file.read(file)


@pytest.mark.parametrize("place", ["loop", "a\0b"])
def test_a_place_that_cannot_be_followed_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    for words in (["check-data", place], ["convert-data", place, "--out", "out"]):
        assert main(words) == 2
        assert "no path that can be followed" in capsys.readouterr().err
