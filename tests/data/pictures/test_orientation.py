"""EXIF orientation: an image and its truth are turned alike, or the data is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from kseg import data
from kseg.data import check
from kseg.data import open as open_source
from kseg.data.pictures.images import read_frame, read_framed, read_image, read_mask
from kseg.data.pictures.orientation import Frame, OrientationError, truth_orientation, turn
from kseg.errors import DataError

WIDE, SQUARE = (24, 40), (32, 32)
TURNS = range(1, 9)
INVERSE = {6: 8, 8: 6}
CLASSES = {"classes": ["back", "thing"]}


def tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def scene(size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image as it is to be seen, and its mask: an L that no turn maps onto itself."""
    mask = np.zeros(size, np.uint8)
    mask[2:20, 3:7] = 1
    mask[16:20, 3:15] = 1
    image = np.random.default_rng(seed).integers(0, 100, (*size, 3)).astype(np.uint8)
    image[mask == 1] += 120
    return image, mask


def as_stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """What a file with this tag holds, so that it is seen as `shown`."""
    return np.ascontiguousarray(turn(shown, INVERSE.get(orientation, orientation)))


def folder(
    root: Path, size: tuple[int, int], orientation: int, *, mask: str, own: int | None = None, **more: Any
) -> Path:
    """Write a semantic folder; `mask` says whether masks are stored "as_shown" or "as_stored"."""
    for index, split in enumerate(("train", "val")):
        image, truth = scene(size, index)
        if mask == "as_stored":
            truth = as_stored(truth, orientation)
        for part, pixels, exif in (
            ("images", as_stored(image, orientation), tag(orientation)),
            ("labels", truth, None if own is None else tag(own)),
        ):
            path = root / part / split / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path, **({} if exif is None else {"exif": exif}))
    (root / "classes.json").write_text(json.dumps({**CLASSES, **more}))
    return root


def loaded(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read image and mask as the cache is filled; the cache itself takes longer and adds nothing here."""
    opened = open_source(root)
    content = opened.read(opened.items["train"][0])
    return content.image, content.mask


@pytest.mark.parametrize("orientation", TURNS)
def test_turn_is_pillows(orientation: int) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turn(pixels, orientation), np.asarray(ImageOps.exif_transpose(picture)))
    np.testing.assert_array_equal(turn(as_stored(pixels, orientation), orientation), pixels)
    layers = np.stack([pixels, pixels + 1])
    np.testing.assert_array_equal(turn(layers, orientation, axis=1)[1], turn(pixels + 1, orientation))


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_of_every_format_come_as_shown(tmp_path: Path, orientation: int, kind: str) -> None:
    shown = np.zeros((*WIDE, 3), np.uint8)
    shown[:12, :20] = 200  # smooth: lossy formats keep it
    file = tmp_path / f"a.{kind}"
    Image.fromarray(as_stored(shown, orientation)).save(file, exif=tag(orientation), quality=95)
    image, frame = read_framed(file)
    assert np.abs(image.astype(int) - shown).mean() < 2
    assert (frame.orientation, frame.shown) == (orientation, WIDE)
    assert frame.stored == (WIDE if orientation < 5 else WIDE[::-1])
    assert read_frame(file) == frame
    Image.fromarray(shown).save(file)
    assert read_frame(file) == Frame(WIDE) == read_framed(file)[1]


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_masks_own_tag_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    _, mask = scene(WIDE)
    file = tmp_path / f"m.{kind}"
    Image.fromarray(as_stored(mask, orientation)).save(file, exif=tag(orientation))
    np.testing.assert_array_equal(read_mask(file), mask)
    # Whatever the image says: the mask says it for itself.
    np.testing.assert_array_equal(read_mask(file, image=Frame(WIDE, 3, True)), mask)


@pytest.mark.parametrize("drawn", ["as_shown", "as_stored"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_sizes_tell_how_a_mask_lies(tmp_path: Path, orientation: int, drawn: str) -> None:
    root = folder(tmp_path / "d", WIDE, orientation, mask=drawn)
    assert check(root).ok
    image, mask = loaded(root)
    expected = scene(WIDE)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(mask, expected[1])


@pytest.mark.parametrize("drawn", ["as_shown", "as_stored"])
@pytest.mark.parametrize(
    ("size", "orientation"), [*((SQUARE, o) for o in TURNS), (WIDE, 2), (WIDE, 3), (WIDE, 4)]
)
def test_where_sizes_do_not_tell_the_data_must(
    tmp_path: Path, size: tuple[int, int], orientation: int, drawn: str
) -> None:
    root = folder(tmp_path / "d", size, orientation, mask=drawn)
    if orientation > 1:
        report = check(root)
        found = [finding for finding in report.findings if finding.severity == "error"]
        assert [finding.code for finding in found] == ["orientation"]
        assert "mask_orientation" in found[0].fix
        assert found[0].count == 2
        with pytest.raises(DataError, match=r"EXIF orientation .*mask_orientation") as caught:
            loaded(root)
        assert "\n" not in str(caught.value)
    (root / "classes.json").write_text(json.dumps({**CLASSES, "mask_orientation": drawn}))
    assert check(root).ok
    image, mask = loaded(root)
    expected = scene(size)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(mask, expected[1])


@pytest.mark.parametrize("orientation", TURNS)
def test_a_tag_of_its_own_settles_square_masks(tmp_path: Path, orientation: int) -> None:
    root = folder(tmp_path / "d", SQUARE, orientation, mask="as_stored", own=orientation)
    assert check(root).ok
    np.testing.assert_array_equal(loaded(root)[1], scene(SQUARE)[1])


def coco(root: Path, size: tuple[int, int], orientation: int, drawn: str, **more: Any) -> Path:
    """Write a COCO folder whose instance is the L of `scene`, as run lengths in the frame `drawn`."""
    from pycocotools import mask as codec

    for index, split in enumerate(("train", "val")):
        image, mask = scene(size, index)
        mask = mask if drawn == "as_shown" else as_stored(mask, orientation)
        path = root / "images" / split / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(as_stored(image, orientation)).save(path, exif=tag(orientation))
        rle = codec.encode(np.asfortranarray(mask))
        document = {
            "images": [{"id": 1, "file_name": "a.png", "height": mask.shape[0], "width": mask.shape[1]}],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": [
                {
                    "id": 1,
                    "image_id": 1,
                    "category_id": 1,
                    "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
                }
            ],
            **more,
        }
        (root / f"instances_{split}.json").write_text(json.dumps(document))
    return root


@pytest.mark.parametrize("drawn", ["as_shown", "as_stored"])
@pytest.mark.parametrize("size", [WIDE, SQUARE])
@pytest.mark.parametrize("orientation", TURNS)
def test_coco_sizes_tell_how_polygons_lie(
    tmp_path: Path, orientation: int, size: tuple[int, int], drawn: str
) -> None:
    root = coco(tmp_path / "d", size, orientation, drawn)
    expected = scene(size)
    if orientation == 1 or (size == WIDE and orientation > 4):
        assert check(root).ok
        opened = open_source(root)
        content = opened.read(opened.items["train"][0])
        np.testing.assert_array_equal(content.image, expected[0])
        np.testing.assert_array_equal(content.mask, expected[1])
        assert content.instances is not None
        np.testing.assert_array_equal(content.instances.mask(1), expected[1] == 1)
        return
    errors = [finding.code for finding in check(root).findings if finding.severity == "error"]
    assert errors == ["orientation"]
    with pytest.raises(OrientationError, match="at the top of its instances_SPLIT"):
        loaded(root)
    told = coco(tmp_path / "told", size, orientation, drawn, mask_orientation=drawn)
    assert check(told).ok
    np.testing.assert_array_equal(loaded(told)[1], expected[1])


def test_a_nearly_black_square_image_is_not_kept_with_its_tag(tmp_path: Path) -> None:
    """The cache keeps files that look the same turned or not within rounding; their tag must not survive."""
    shown = np.zeros((*SQUARE, 3), np.uint8)
    shown[2, 3] = 255
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (tmp_path / "d" / part / split).mkdir(parents=True)
        Image.fromarray(as_stored(shown, 6)).save(tmp_path / "d/images" / split / "a.png", exif=tag(6))
        Image.fromarray((shown[..., 0] > 0).astype(np.uint8)).save(tmp_path / "d/labels" / split / "a.png")
    (tmp_path / "d/classes.json").write_text(json.dumps({**CLASSES, "mask_orientation": "as_shown"}))
    source = data.open(tmp_path / "d", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(source.samples("train")[0].image, shown)
    served = next(iter(source.builder().as_dataset(split="train").as_numpy_iterator()))
    np.testing.assert_array_equal(served["image"], shown)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_tag_that_is_no_orientation_is_none(tmp_path: Path, value: int) -> None:
    image, _ = scene(WIDE)
    Image.fromarray(image).save(tmp_path / "a.png", exif=tag(value))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
    assert not read_framed(tmp_path / "a.png")[1].tagged


def test_a_size_of_neither_is_left_to_the_check_of_sizes() -> None:
    assert truth_orientation((5, 5), Frame(WIDE, 6, True), None, "m") == 1


@pytest.mark.parametrize("where", [0.1, 0.9])
def test_a_tag_behind_the_pixels_of_a_png_counts(tmp_path: Path, where: float) -> None:
    """PNG allows the chunk anywhere; a damaged file says what it is."""
    image, _ = scene(WIDE)
    file = tmp_path / "a.png"
    Image.fromarray(image).save(file, exif=tag(6))
    content = file.read_bytes()
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    moved = content.replace(chunk, b"")
    end = moved.rindex(b"IEND") - 4
    file.write_bytes(moved[:end] + chunk + moved[end:])
    assert read_frame(file) == Frame(WIDE, 6, True) == read_framed(file)[1]
    file.write_bytes(moved[: int(len(moved) * where)])
    with pytest.raises(DataError, match=r"a\.png' is truncated"):
        read_framed(file)
