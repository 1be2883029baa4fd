"""Named label spaces: their lists, their colours, and folders that take one by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kseg
from kseg.data import Palette
from kseg.data.label_spaces import LabelSpace, label_space, label_space_names
from kseg.errors import DataError, UsageError
from kseg.spec import voc_palette

SPACES = [label_space(name) for name in label_space_names()]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_space_has_a_spec_and_a_palette_that_agree(space: LabelSpace) -> None:
    spec = space.spec(input_size=(10, 20))
    assert (spec.classes, spec.palette, spec.ignore_id) == (space.classes, space.colors, 255)
    assert spec.input_size == (10, 20)
    assert len({*space.colors, *space.void_colors}) == len(space.colors) + len(space.void_colors)
    shown = np.array([[*space.colors, *space.void_colors]], np.uint8)
    expected = [*range(spec.num_classes), *[255] * len(space.void_colors)]
    assert space.palette.to_ids(shown)[0].tolist() == expected
    assert space.source


@pytest.mark.parametrize(
    ("name", "count", "known"),
    [
        ("msrc21", 21, {0: "building", 4: "sheep", 8: "face", 16: "road", 20: "boat"}),
        ("voc", 21, {0: "background", 15: "person", 20: "tvmonitor"}),
        ("camvid11", 11, {0: "sky", 4: "pavement", 10: "bicyclist"}),
        ("stanford8", 8, {0: "sky", 7: "foreground object"}),
        ("siftflow33", 33, {0: "awning", 16: "mountain", 32: "window"}),
        ("siftflow_geometric3", 3, {0: "sky", 2: "vertical"}),
        ("cityscapes19", 19, {0: "road", 13: "car", 18: "bicycle"}),
        ("ade150", 150, {0: "wall", 12: "person", 20: "car", 149: "flag"}),
    ],
)
def test_class_lists(name: str, count: int, known: dict[int, str]) -> None:
    space = label_space(name.upper())
    assert len(space.classes) == count
    assert {index: space.classes[index] for index in known} == known


def test_colours_of_the_originals() -> None:
    msrc, voc = label_space("msrc21"), label_space("voc")
    assert dict(zip(msrc.classes, msrc.colors, strict=True))["cow"] == (0, 0, 128)
    assert msrc.void_colors == ((0, 0, 0), (128, 0, 128), (64, 0, 0))
    # Both follow the bit-reversal rule, MSRC with two of the first 26 colours left out.
    assert set(voc_palette(26)) - {*msrc.colors, *msrc.void_colors} == {(128, 192, 0), (0, 64, 128)}
    assert voc.colors == voc_palette(21)
    assert dict(zip(voc.classes, voc.colors, strict=True))["sheep"] == (128, 64, 0)


def test_camvid_is_the_class_list_of_the_shared_data(shared_data: Path) -> None:
    own = kseg.data.open(shared_data / "camvid").spec
    assert (own.classes, own.palette) == (label_space("camvid11").classes, label_space("camvid11").colors)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no label space 'msrc'.*Did you mean 'msrc21'.*ade150, camvid11"):
        label_space("msrc")


def folder(path: Path, classes: dict, mask: np.ndarray) -> Path:
    """A data folder of one image."""
    for part, pixels in (("images", np.zeros((*mask.shape[:2], 3), np.uint8)), ("labels", mask)):
        (path / part / "train").mkdir(parents=True)
        Image.fromarray(pixels).save(path / part / "train" / "one.png")
    (path / "classes.json").write_text(json.dumps(classes))
    return path


def msrc_mask() -> np.ndarray:
    """Stripes: cow, horse (ignored), mountain (ignored), void, boat."""
    colors = [(0, 0, 128), (128, 0, 128), (64, 0, 0), (0, 0, 0), (192, 64, 0)]
    return np.array([colors], np.uint8).repeat(3, 0).repeat(2, 1)


def test_a_folder_of_msrc_colour_masks_needs_the_name_only(tmp_path: Path) -> None:
    source = kseg.data.open(folder(tmp_path, {"label_space": "msrc21"}, msrc_mask()))
    sample = source.samples("train")[0]
    assert sample.mask[0, ::2].tolist() == [3, 255, 255, 255, 20]
    assert source.spec.classes == label_space("msrc21").classes
    assert source.spec.palette == label_space("msrc21").colors


def test_a_palette_of_a_label_space_reads_colour_masks_of_any_folder(tmp_path: Path) -> None:
    space = label_space("msrc21")
    path = folder(tmp_path, {"classes": list(space.classes)}, msrc_mask())
    assert isinstance(space.palette, Palette)
    sample = kseg.data.open(path, palette=space.palette).samples("train")[0]
    assert sample.mask[0, ::2].tolist() == [3, 255, 255, 255, 20]


def test_ids_of_the_data_sets_own_files_become_class_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 33]], np.uint8)
    sample = kseg.data.open(folder(tmp_path / "sift", {"label_space": "siftflow33"}, ids)).samples("train")[0]
    assert sample.mask.tolist() == [[255, 0, 32]]
    ids = np.array([[0, 10, 11]], np.uint8)
    sample = kseg.data.open(folder(tmp_path / "camvid", {"label_space": "camvid11"}, ids)).samples("train")[0]
    assert sample.mask.tolist() == [[0, 10, 255]]


def test_keys_beside_the_label_space_go_first(tmp_path: Path) -> None:
    camvid = {"label_space": "camvid11", "color_masks": True}
    mask = np.array([[(128, 0, 0), (0, 0, 0), (0, 128, 192)]], np.uint8)
    sample = kseg.data.open(folder(tmp_path / "colours", camvid, mask)).samples("train")[0]
    assert sample.mask.tolist() == [[1, 255, 10]]
    msrc = {"label_space": "msrc21", "color_masks": False}
    sample = kseg.data.open(folder(tmp_path / "ids", msrc, np.array([[3, 255]], np.uint8))).samples("train")[
        0
    ]
    assert sample.mask.tolist() == [[3, 255]]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"label_space": "voc12"}, r"classes\.json': There is no label space 'voc12'.*voc"),
        ({"label_space": "voc", "classes": ["a"]}, r"classes\.json': `label_space` 'voc' gives.*`classes`"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, classes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kseg.data.open(folder(tmp_path, classes, msrc_mask()))
