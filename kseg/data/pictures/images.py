"""Readers of images and masks that either give the right pixels or say what is wrong with the file."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kseg import records
from kseg.data.pictures import pillow_quiet
from kseg.data.pictures.orientation import UPRIGHT, Drawn, Frame, truth_orientation, turn
from kseg.data.pictures.palette import Color, Palette, color_counts
from kseg.errors import DataError
from kseg.text import printable

pillow_quiet.quiet()

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
# Of one file. Pillow's own bound on pixels, twice `Image.MAX_IMAGE_PIXELS`, is that of an image.
MAX_BYTES = 2 * 2**30
MAX_PIXELS = 178_956_970
# Pillow would also start Ghostscript for what calls itself PostScript.
_WANTED = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF")
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112
# Decoding takes ~12 bytes a pixel: of pictures from so many pixels on, one thread at a time holds one.
_LARGE = 32_000_000
_large_one = threading.Lock()


class DamagedFileError(DataError):
    """A file is empty, truncated, damaged or no image at all."""


class LossyMaskError(DataError):
    """A mask was saved with lossy compression, so its ids are not what was drawn."""


class ColorMaskError(DataError):
    """A mask has colours and no palette was given. `colors`: packed colour -> pixels."""

    def __init__(self, message: str, colors: dict[int, int]) -> None:
        super().__init__(message)
        self.colors = colors


# How PNG, JPEG, BMP, TIFF, WebP and GIF files start.
_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = (_PNG[:4], b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8")
_ID_MODES = ("L", "P", "1", "I;16", "I;16B", "I;16L", "I")


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on a file into one line; its decoders raise nearly anything."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        found = str(error).partition(", could be")[0]
        raise DataError(
            f"'{name}' is too large to decode at once: {found}. Cut it into tiles first"
        ) from error
    except Exception as error:
        raise DamagedFileError(
            f"'{name}' is truncated or damaged: {printable(error, 200)}. Restore or remove it"
        ) from error


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header, or raise a DataError that names the fault."""
    if not data:
        raise DamagedFileError(f"'{name}' is empty (0 bytes). Restore or remove it")
    try:
        with _decoding(name):
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    except DamagedFileError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        if data.startswith(_SIGNATURES):
            raise DamagedFileError(
                f"'{name}' is truncated: its header is damaged. Restore or remove it"
            ) from error
        raise DamagedFileError(
            f"'{name}' is not an image that can be read (it starts with {data[:8]!r}). "
            f"Use {', '.join(IMAGE_SUFFIXES)}"
        ) from error


def _frame(picture: Image.Image) -> Frame:
    """Return how a picture lies in its file; before its pixels are loaded, which forgets it for TIFF."""
    width, height = picture.size
    if picture.format == "TIFF":
        tag = picture.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
    else:
        tag = picture.getexif().get(_ORIENTATION)
    if not isinstance(tag, int) or not 1 <= tag <= 8:
        return Frame((height, width))
    frame = Frame((height, width), tag, tagged=True)
    # Pillow gives TIFF turned, its size included.
    return Frame(frame.shown, tag, tagged=True) if picture.format == "TIFF" else frame


def _pending(picture: Image.Image, frame: Frame) -> int:
    """Return the turn that decoded pixels still need."""
    return UPRIGHT if picture.format == "TIFF" else frame.orientation


@contextlib.contextmanager
def _room(picture: Image.Image) -> Iterator[None]:
    with _large_one if picture.width * picture.height >= _LARGE else contextlib.nullcontext():
        yield


def read_frame(path: str | os.PathLike[str]) -> Frame:
    """Return size and EXIF orientation of an image file; where its format allows, no pixel is decoded.

    Raises:
        DataError: if the file is missing, no image, or damaged.
    """
    name = printable(os.fspath(path))
    if os.path.isfile(path):
        # A damaged file is read whole below, for what is said of it.
        with (
            contextlib.suppress(DamagedFileError),
            _decoding(name),
            open(path, "rb") as handle,
            Image.open(handle, formats=_FORMATS) as picture,
        ):
            if picture.format == "PNG" and not _png_has_metadata(handle):
                return Frame((picture.height, picture.width))
            return _frame(picture)
    return frame_of(_read(path), name)


def _png_has_metadata(handle: BinaryIO) -> bool:
    """Return whether a PNG has a chunk that may hold an orientation; Pillow decodes it all to know."""
    # Pillow goes on from where it stopped.
    place = handle.tell()
    handle.seek(len(_PNG))
    found = False
    while not found and len(header := handle.read(8)) == 8:
        found = header[4:] in (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
        handle.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    handle.seek(place)
    return found


def frame_of(data: bytes, name: str) -> Frame:
    """The same from the bytes of a file; `name` is what errors call it."""
    picture = _open(data, name)
    with _decoding(name):
        return _frame(picture)


def _read(path: str | os.PathLike[str]) -> bytes:
    return records.content(os.fspath(path), max_bytes=MAX_BYTES)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as uint8 `(H, W, 3)` RGB; see `decode_image`."""
    return read_framed(path)[0]


def read_framed(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], Frame]:
    """Read an image file; also return how it lay in the file."""
    return decode_framed(_read(path), printable(os.fspath(path)))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to uint8 `(H, W, 3)` RGB.

    Greyscale is repeated to three channels, palettes are looked up, CMYK is converted, an alpha channel is
    dropped, 16-bit greys are scaled so that 65535 becomes 255, and the EXIF orientation is applied (what
    that means for a mask: see `kseg.data.pictures.orientation`). Of several frames the first is taken.

    Args:
        data: the whole file.
        name: what errors call it.

    Raises:
        DataError: if the bytes are empty, no image, truncated, damaged, over 179 megapixels or floats.
    """
    return decode_framed(data, name)[0]


def _check_png(data: bytes, name: str) -> None:
    """Compare the checksums of a PNG's pixels, which Pillow skips: a flipped bit may decode to other ids."""
    view, at = memoryview(data), len(_PNG)
    while data.startswith(_PNG) and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        stated = int.from_bytes(view[end : end + 4], "big")
        # What is cut short inside a chunk is Pillow's to tell.
        if (
            view[at + 4 : at + 8] == b"IDAT"
            and end + 4 <= len(data)
            and zlib.crc32(view[at + 4 : end]) != stated
        ):
            raise DamagedFileError(f"'{name}' is damaged: its pixels fail the checksum. Restore or remove it")
        at = end + 4


def decode_framed(data: bytes, name: str) -> tuple[NDArray[np.uint8], Frame]:
    """Decode the bytes of an image file; also return how it lay in the file."""
    picture = _open(data, name)
    with _decoding(name), _room(picture):
        frame = _frame(picture)
        _check_png(data, name)
        picture.load()
        upright = turn(_rgb(picture, name), _pending(picture, frame))
        # A copy: Pillow's own array is read-only.
        return np.array(upright, order="C"), frame


def _rgb(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    if picture.mode in ("RGB", "RGBA", "RGBX"):
        return np.asarray(picture)[..., :3]
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32)
        grey = ((wide + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise DataError(
            f"'{name}' has 32-bit pixels, whose range nobody can know. Save it with 8 or 16 bits per channel"
        )
    return np.asarray(picture.convert("RGB"))


def read_mask(
    path: str | os.PathLike[str],
    palette: Palette | Mapping[Color, int] | None = None,
    id_map: Mapping[int, int] | None = None,
    *,
    image: Frame | None = None,
    drawn: Drawn | None = None,
) -> NDArray[Any]:
    """Read a mask file as class ids `(H, W)`.

    Args:
        path, palette, id_map: see `decode_mask`.
        image: of the image that the mask belongs to: a mask without an EXIF tag of its own is turned
            with an image that has one, where its size or `drawn` says that it was drawn on the stored pixels.
        drawn: see `kseg.data.pictures.orientation.truth_orientation`.

    Raises:
        OrientationError: nothing tells how the mask lies on a turned image.
        DataError: see `decode_mask`.
    """
    name = printable(os.fspath(path))
    ids, frame = _decode_mask(_read(path), name, palette, id_map)
    if image is None or frame.tagged:
        return ids
    size = (ids.shape[0], ids.shape[1])
    return np.ascontiguousarray(turn(ids, truth_orientation(size, image, drawn, f"'{name}'")))


def decode_mask(
    data: bytes,
    name: str,
    palette: Palette | Mapping[Color, int] | None = None,
    id_map: Mapping[int, int] | None = None,
) -> NDArray[Any]:
    """Decode the bytes of a mask file to class ids `(H, W)`, uint8 or (for ids over 255) int32.

    Grey values and the indices of palette files are the ids, unless `palette` is given: then every
    pixel's colour is looked up. A colour file whose three channels are equal everywhere counts as grey.
    An EXIF orientation of the file itself is applied.

    Args:
        data: the whole file.
        name: what errors call it.
        palette: colours of the classes, for colour masks: a `Palette` or `{(r, g, b): id}`.
        id_map: `{id in the file: id wanted}`; ids that it does not name stay.

    Raises:
        DamagedFileError: the file is empty, truncated, damaged, or no image.
        LossyMaskError: JPEG and its like change ids.
        ColorMaskError: a colour mask, and no palette given.
        UnknownColorError: the palette does not know a colour.
    """
    return _decode_mask(data, name, palette, id_map)[0]


def _decode_mask(
    data: bytes,
    name: str,
    palette: Palette | Mapping[Color, int] | None,
    id_map: Mapping[int, int] | None,
) -> tuple[NDArray[Any], Frame]:
    picture = _open(data, name)
    with _decoding(name), _room(picture):
        frame = _frame(picture)
        _check_png(data, name)
        picture.load()
        if picture.format in _LOSSY:
            raise LossyMaskError(
                f"'{name}' is a {picture.format} mask: lossy compression changes ids near edges. "
                "Save masks as PNG, from the original annotation"
            )
        if palette is None:
            ids = _ids(picture, data, name)
        else:
            colors = palette if isinstance(palette, Palette) else Palette(tuple(palette.items()))
            ids = colors.to_ids(np.asarray(picture.convert("RGB")), name)
        if id_map:
            ids = map_ids(ids, id_map)
        return np.ascontiguousarray(turn(ids, _pending(picture, frame))), frame


def map_ids(ids: NDArray[Any], id_map: Mapping[int, int]) -> NDArray[Any]:
    """Replace ids by `{old: new}`, all at once (a swap works); ids that are not named stay."""
    if ids.size and ids.min() >= 0 and ids.max() < 1 << 16:
        table = np.arange(int(ids.max()) + 1)
        for old, new in id_map.items():
            if 0 <= int(old) < len(table):
                table[int(old)] = int(new)
        mapped = table.astype(np.int32)[ids]
    else:  # too wide for a table
        values, place = np.unique(ids, return_inverse=True)
        wanted = [int(id_map.get(int(value), int(value))) for value in values]
        mapped = np.array(wanted, np.int32)[place].reshape(ids.shape)
    small = mapped.size == 0 or (mapped.min() >= 0 and mapped.max() <= 255)
    return mapped.astype(np.uint8) if small else mapped


def _grey_step(picture: Image.Image, data: bytes) -> int:
    """Pillow spreads the greys of 2- and 4-bit PNG over 0-255 (x85, x17): return that factor, else 1."""
    if picture.format != "PNG" or picture.mode != "L":
        return 1
    depth, color_type = data[24], data[25]  # in the header chunk, always the first
    return {2: 85, 4: 17}.get(depth, 1) if color_type == 0 else 1


def _ids(picture: Image.Image, data: bytes, name: str) -> NDArray[Any]:
    if picture.mode in _ID_MODES:
        ids = np.asarray(picture) // _grey_step(picture, data)
        return ids.astype(np.uint8 if ids.dtype in (np.uint8, np.bool_) else np.int32)
    if picture.mode == "F":
        raise DataError(f"'{name}' holds floats, not class ids. Save it as 8- or 16-bit PNG")
    pixels = np.asarray(picture.convert("RGB"))
    if (pixels != pixels[..., :1]).any():
        colors = color_counts(pixels)
        raise ColorMaskError(
            f"'{name}' is a colour mask ({len(colors)} colours), not a map of class ids. Give the palette: "
            'palette=... in Python; or write "color_masks": true and the colours of the classes, as '
            '"palette", into classes.json',
            colors,
        )
    return np.ascontiguousarray(pixels[..., 0])
