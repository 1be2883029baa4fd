"""Readers: every kind of file that people have gives the right pixels or one clear error."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from kseg.data.pictures.images import (
    ColorMaskError,
    DamagedFileError,
    LossyMaskError,
    decode_image,
    decode_mask,
    map_ids,
    read_image,
    read_mask,
)
from kseg.data.pictures.palette import Palette, UnknownColorError, pack
from kseg.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
IDS = np.random.default_rng(1).integers(0, 5, (12, 20)).astype(np.uint8)


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_png(rows: np.ndarray, depth: int) -> bytes:
    """A greyscale PNG of 1, 2 or 4 bits per pixel, which Pillow itself does not write."""
    height, width = rows.shape
    packed = b""
    for row in rows:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        packed += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(packed))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_a_flipped_byte_of_a_png_never_gives_other_pixels(decode):
    """Pillow compares no checksum of the pixels, and stops before zlib's own."""
    good = encode(IDS)
    start, end = good.index(b"IDAT") + 4, good.index(b"IEND") - 4
    for at in range(start, end):
        damaged = bytearray(good)
        damaged[at] ^= 0x10
        with pytest.raises(DamagedFileError, match=r"'a\.png' is (damaged: its pixels fail|truncated)"):
            decode(bytes(damaged), "a.png")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_rgb_is_exact(kind):
    image = decode_image(encode(RGB, kind), "a")
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


def test_grey_image_is_repeated_to_three_channels():
    np.testing.assert_array_equal(decode_image(encode(IDS), "a"), np.repeat(IDS[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    wide = np.array([[0, 1, 257, 32768, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_image(encode(wide), "a")[0, :, 1], [0, 0, 1, 128, 255])


def test_rgba_drops_alpha_and_keeps_colour():
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 7, np.uint8)])
    image = decode_image(encode(rgba), "a")
    np.testing.assert_array_equal(image, RGB)
    assert image.flags.c_contiguous


def test_palette_png_image_gives_its_colours():
    picture = Image.fromarray(IDS, "L").convert("P")
    picture.putpalette([value for index in range(256) for value in (index * 40 % 256, 10, 255 - index)])
    np.testing.assert_array_equal(decode_image(encode(picture), "a")[..., 0], IDS * 40)


def test_cmyk_jpeg_becomes_rgb():
    # No ink at all is white; full cyan has no red.
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, 8:, 0] = 255
    image = decode_image(encode(Image.fromarray(ink, "CMYK"), "JPEG", quality=95), "a")
    assert image.shape == (16, 16, 3)
    assert image[4, 2].min() > 240
    assert image[4, 13, 0] < 15
    assert image[4, 13, 1] > 240


def test_exif_orientation_is_applied_to_images():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    image = decode_image(encode(RGB, "PNG", exif=exif), "a")
    np.testing.assert_array_equal(image, np.rot90(RGB, -1))


def test_one_pixel():
    assert decode_image(encode(RGB[:1, :1]), "a").shape == (1, 1, 3)
    assert decode_mask(encode(IDS[:1, :1]), "a").shape == (1, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_truncated_files_say_so(kind, part):
    big = np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    whole = encode(big, kind)
    with pytest.raises(DamagedFileError, match=r"'x/a\.img' is truncated"):
        decode_image(whole[: int(len(whole) * part)], "x/a.img")


def test_flipped_bytes_in_png_are_found():
    damaged = bytearray(encode(np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8)))
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(DamagedFileError, match="damaged"):
        decode_image(bytes(damaged), "a")


def test_empty_and_alien_files():
    with pytest.raises(DamagedFileError, match="empty"):
        decode_image(b"", "a.png")
    with pytest.raises(DamagedFileError, match="not an image"):
        decode_image(b"hello, this is text", "a.png")


def test_missing_file_and_folder_name_the_path(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png' does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="no regular file"):
        read_image(tmp_path)


def test_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too large"):
        decode_image(encode(RGB), "a")


def test_float_images_are_refused():
    with pytest.raises(DataError, match="32-bit"):
        decode_image(encode(np.zeros((4, 4), np.float32), "TIFF"), "a")


def test_mask_of_eight_bits():
    ids = decode_mask(encode(IDS), "a")
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, IDS)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_mask_of_few_bits_keeps_its_ids(depth):
    ids = np.random.default_rng(3).integers(0, 2**depth, (5, 7)).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(grey_png(ids, depth), "a"), ids)


def test_palette_png_mask_gives_indices():
    picture = Image.fromarray(IDS, "L").convert("P")
    picture.putpalette([200, 10, 10] * 256)
    np.testing.assert_array_equal(decode_mask(encode(picture), "a"), IDS)


def test_palette_png_mask_of_few_colours_gives_indices():
    picture = Image.fromarray(IDS % 4, "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    np.testing.assert_array_equal(decode_mask(encode(picture, bits=2), "a"), IDS % 4)


def test_mask_of_sixteen_bits():
    wide = IDS.astype(np.uint16) + 1000
    ids = decode_mask(encode(wide), "a")
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, wide)


def test_colour_file_with_equal_channels_counts_as_grey():
    np.testing.assert_array_equal(decode_mask(encode(np.repeat(IDS[..., None], 3, axis=2)), "a"), IDS)


def test_colour_mask_offers_the_palette_and_lists_colours():
    colors = np.array([[128, 64, 128], [64, 0, 128], [0, 0, 0], [1, 2, 3], [9, 9, 9]], np.uint8)[IDS]
    with pytest.raises(ColorMaskError, match="palette") as caught:
        decode_mask(encode(colors), "m.png")
    assert caught.value.colors[int(pack(np.uint8([128, 64, 128])))] == (IDS == 0).sum()


def test_colour_mask_with_palette():
    palette = Palette.from_classes(["road", "car"], [(128, 64, 128), (64, 0, 128)], void_color=(0, 0, 0))
    colors = np.array([[128, 64, 128], [64, 0, 128], [0, 0, 0]], np.uint8)
    ids = np.array([[0, 1, 2], [2, 1, 0]])
    expected = np.array([[0, 1, 255], [255, 1, 0]])
    np.testing.assert_array_equal(decode_mask(encode(colors[ids]), "a", palette), expected)
    np.testing.assert_array_equal(decode_mask(encode(colors[ids]), "a", palette.mapping()), expected)
    with pytest.raises(UnknownColorError, match="nearest: road"):
        decode_mask(encode(colors[ids] + np.uint8(1)), "a", palette)


def test_lossy_masks_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "m.jpg"
    path.write_bytes(encode(IDS, "JPEG"))
    with pytest.raises(LossyMaskError, match="JPEG mask: lossy"):
        read_mask(path)


def test_id_map_replaces_all_at_once_and_keeps_the_rest():
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(map_ids(ids, {0: 1, 1: 0, 255: 3}), [[1, 0, 2, 3]])
    assert map_ids(ids, {0: 1}).dtype == np.uint8
    wide = map_ids(ids, {2: 1000})
    assert wide.dtype == np.int32
    assert wide.tolist() == [[0, 1, 1000, 255]]
    huge = np.array([[-1, 2_000_000_000, 7]], np.int32)
    assert map_ids(huge, {2_000_000_000: 1, -1: 255}).tolist() == [[255, 1, 7]]
    np.testing.assert_array_equal(decode_mask(encode(ids), "a", id_map={255: 1, 2: 255}), [[0, 1, 255, 1]])


def test_real_files_read_whole(shared_data):
    folder = shared_data / "camvid"
    image = next(iter(sorted((folder / "images" / "val").iterdir())))
    mask = read_mask(folder / "labels" / "val" / f"{image.stem}.png")
    assert read_image(image).shape == (360, 480, 3)
    assert mask.shape == (360, 480)
    assert set(np.unique(mask)) <= set(range(12))


def bomb(width: int, height: int, kind: str = "PNG") -> bytes:
    """A small file whose header states a huge picture."""
    if kind == "PNG":
        data = bytearray(encode(RGB))
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
        return bytes(data)
    data = bytearray(encode(RGB, "BMP"))
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_a_small_file_that_states_a_huge_picture_is_one_line_with_the_bound(decode, kind):
    with pytest.raises(
        DataError, match=r"'b\.img' is too large .*3600000000 pixels.* limit of 178956970"
    ) as caught:
        decode(bomb(60_000, 60_000, kind), "b.img")
    assert str(caught.value).isprintable()


def test_text_that_unpacks_to_gigabytes_is_refused():
    text = zlib.compress(b"a" * 200_000_000, 9)
    chunk = b"zTXt" + b"Comment\0\0" + text
    whole = encode(RGB)
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(DamagedFileError, match="damaged"):
        decode_image(whole[:33] + packed + whole[33:], "a")


def test_a_file_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    from kseg.data.pictures import images

    monkeypatch.setattr(images, "MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encode(RGB))
    with pytest.raises(DataError, match="at most 100 are read"):
        read_image(tmp_path / "a.png")


def test_postscript_and_its_like_are_no_images():
    with pytest.raises(DamagedFileError, match="not an image"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.png")


KINDS = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "BMP": {},
    "WEBP": {},
    "GIF": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF jpeg": {"compression": "jpeg"},
}


def damaged_files(kind: str) -> list[bytes]:
    """The same picture with a tag, damaged in 60 ways."""
    rng = np.random.default_rng(7)
    big = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind in ("BMP", "GIF") else {"exif": exif}
    whole = encode(big, kind.split()[0], **KINDS[kind], **options)
    files = []
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[rng.choice([place, place % 64])] = rng.integers(0, 256)
        files.append(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data))
    return files


def said_of(data: bytes, decode) -> str:
    try:
        assert decode(data, "x/a.img").ndim >= 2
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_every_format_are_pixels_or_one_line(kind, capfd):
    said = [said_of(data, decode) for data in damaged_files(kind) for decode in (decode_image, decode_mask)]
    refused = [line for line in said if line]
    assert refused
    for line in refused:
        assert "'x/a.img'" in line
        assert line.isprintable()
    # What the C libraries print does not pass through Python.
    assert capfd.readouterr().err == ""


def test_reading_damaged_files_is_quiet(tmp_path):
    """In a process of its own: test runners take warnings for themselves."""
    for kind in KINDS:
        for number, data in enumerate(damaged_files(kind)):
            (tmp_path / f"{kind} {number}").write_bytes(data)
    code = (
        "import sys; from pathlib import Path; from kseg.data.pictures.images import read_image, read_mask\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    for read in (read_image, read_mask):\n"
        "        try: read(path)\n"
        "        except ValueError: pass\n"
        "print('done')"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
