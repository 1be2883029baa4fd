"""Palettes: exact match, unknown colours with counts and the nearest class, and the files they come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg.data.pictures.palette import Palette, UnknownColorError, hex_color, pack, parse_color, unpack
from kseg.errors import DataError, UsageError
from kseg.spec import voc_palette

COLORS = ((128, 64, 128), (64, 0, 128), (10, 20, 30))
NAMES = ("road", "car", "tree")


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_round_trip_of_any_class_map(classes, seed):
    colors = np.array([(i % 256, i // 256, 255 - i % 256) for i in range(classes)], np.uint8)
    ids = np.random.default_rng(seed).integers(0, classes, (6, 5))
    palette = Palette.from_classes([str(i) for i in range(classes)], colors)
    result = palette.to_ids(colors[ids])
    np.testing.assert_array_equal(result, ids)
    assert result.dtype == (np.uint8 if classes <= 256 else np.int32)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_pack_and_hex_are_reversible(color):
    assert unpack(int(pack(np.array(color, np.uint8)))) == color
    assert parse_color(hex_color(color)) == color


def test_unknown_colours_are_reported_most_frequent_first():
    palette = Palette.from_classes(NAMES, COLORS)
    pixels = np.full((4, 5, 3), COLORS[0], np.uint8)
    pixels[0, :2] = (63, 0, 128)
    pixels[1, :3] = (129, 64, 128)
    first, second = palette.unknown(pixels)
    assert (first.color, first.count, first.nearest) == ((129, 64, 128), 3, "road")
    assert (second.color, second.count, second.nearest, second.distance) == ((63, 0, 128), 2, "car", 1.0)
    with pytest.raises(UnknownColorError, match=r"'m\.png' has 2 colours") as caught:
        palette.to_ids(pixels, "m.png")
    assert caught.value.unknown == [first, second]


def test_void_colour_becomes_void_unless_a_class_has_it():
    black = Palette.from_classes(NAMES, COLORS, void_color=(0, 0, 0), void_id=255)
    assert black.to_ids(np.zeros((1, 1, 3), np.uint8))[0, 0] == 255
    voc = Palette.from_classes(["background", "a"], voc_palette(2), void_color=(0, 0, 0))
    assert voc.to_ids(np.zeros((1, 1, 3), np.uint8))[0, 0] == 0


def test_one_colour_for_two_classes_is_refused():
    with pytest.raises(UsageError, match="distinct"):
        Palette((((1, 2, 3), 0), ((1, 2, 3), 1)))
    with pytest.raises(UsageError, match="0-255"):
        Palette((((1, 2, 300), 0),))
    with pytest.raises(UsageError, match="one colour per class"):
        Palette.from_classes(NAMES, COLORS[:2])


FILES = {
    "classes.json": json.dumps({"classes": NAMES, "palette": COLORS, "void_color": [0, 0, 0]}),
    "object.json": json.dumps({**dict(zip(NAMES, COLORS, strict=True)), "Void": [0, 0, 0]}),
    "list.json": json.dumps(
        [{"name": n, "color": hex_color(c)} for n, c in zip(NAMES, COLORS, strict=True)]
        + [{"name": "void", "color": "#000000"}]
    ),
    "table.csv": "name,r,g,b\n"
    + "".join(f"{n},{c[0]},{c[1]},{c[2]}\n" for n, c in zip(NAMES, COLORS, strict=True))
    + "Void,0,0,0\n",
    "camvid.txt": "".join(f"{c[0]} {c[1]} {c[2]}\t{n}\n" for n, c in zip(NAMES, COLORS, strict=True))
    + "0 0 0\tVoid\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_form_gives_the_same_palette(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    palette = Palette.from_file(tmp_path / name)
    assert palette.mapping() == {COLORS[0]: 0, COLORS[1]: 1, COLORS[2]: 2, (0, 0, 0): 255}
    assert palette.names == NAMES


def test_ids_follow_the_given_classes_by_name(tmp_path):
    (tmp_path / "p.txt").write_text(FILES["camvid.txt"] + "1 1 1 tree\n")
    palette = Palette.from_file(tmp_path / "p.txt", classes=("tree", "car", "road"), void_id=11)
    assert palette.mapping() == {COLORS[0]: 2, COLORS[1]: 1, COLORS[2]: 0, (0, 0, 0): 11, (1, 1, 1): 0}
    with pytest.raises(DataError, match="Did you mean 'trees'"):
        Palette.from_file(tmp_path / "p.txt", classes=("trees", "car", "road"))


@pytest.mark.parametrize(
    "text", ["", "{", '{"road": [1, 2]}', '{"road": 7}', "a,b\nc,d\n", '[{"colour": 1}]']
)
def test_files_that_are_no_palette_get_an_example(tmp_path, text):
    (tmp_path / "p").write_text(text)
    with pytest.raises(DataError, match="128 64 128"):
        Palette.from_file(tmp_path / "p")


def test_missing_palette_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Palette.from_file(tmp_path / "none.json")
