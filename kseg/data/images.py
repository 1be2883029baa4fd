"""Readers of images and masks that either give the right pixels or say what is wrong with the file."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kseg.data.native_stderr import silent_native_stderr
from kseg.data.palette import Color, Palette, color_counts
from kseg.errors import DataError

# Pillow warns from 89 megapixels and refuses from 179; reading between the two is a normal job here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What its readers have to say about a damaged file comes as an exception too.
warnings.filterwarnings("ignore", module=r"PIL\..*Plugin")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")


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
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ID_MODES = ("L", "P", "1", "I;16", "I;16B", "I;16L", "I")


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no file '{path}'") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Decode all pixels, or raise a DataError that names the fault."""
    if not data.startswith(_TIFF):
        return _decoded(data, name)
    with silent_native_stderr:
        return _decoded(data, name)


def _decoded(data: bytes, name: str) -> Image.Image:
    if not data:
        raise DamagedFileError(f"'{name}' is empty (0 bytes). Restore or remove it")
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        if data.startswith(_SIGNATURES):
            raise DamagedFileError(
                f"'{name}' is truncated: its header is damaged. Restore or remove it"
            ) from error
        raise DamagedFileError(
            f"'{name}' is not an image that can be read (it starts with {data[:8]!r}). "
            f"Use {', '.join(IMAGE_SUFFIXES)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"'{name}' is too large to decode at once: {error}. Cut it into tiles first"
        ) from error
    except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
        raise DamagedFileError(f"'{name}' is truncated or damaged: {error}. Restore or remove it") from error
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error) as error:
        raise DamagedFileError(f"'{name}' is truncated or damaged: {error}. Restore or remove it") from error
    return picture


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as uint8 `(H, W, 3)` RGB; see `decode_image`."""
    return decode_image(_read(path), os.fspath(path))


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to uint8 `(H, W, 3)` RGB.

    Greyscale is repeated to three channels, palettes are looked up, CMYK is converted, an alpha channel is
    dropped, 16-bit greys are scaled so that 65535 becomes 255, and the EXIF orientation is applied (a
    mask must have the size of the turned image). Of several frames the first is taken.

    Args:
        data: the whole file.
        name: what errors call it.

    Raises:
        DataError: if the bytes are empty, no image, truncated, damaged, over 179 megapixels or floats.
    """
    picture = ImageOps.exif_transpose(_open(data, name))
    if picture.mode in ("RGB", "RGBA", "RGBX"):
        return np.array(np.asarray(picture)[..., :3], order="C")  # a copy: Pillow's own is read-only
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32)
        grey = ((wide + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise DataError(
            f"'{name}' has 32-bit pixels, whose range nobody can know. Save it with 8 or 16 bits per channel"
        )
    return np.array(picture.convert("RGB"))


def read_mask(
    path: str | os.PathLike[str],
    palette: Palette | Mapping[Color, int] | None = None,
    id_map: Mapping[int, int] | None = None,
) -> NDArray[Any]:
    """Read a mask file as class ids `(H, W)`; see `decode_mask`."""
    return decode_mask(_read(path), os.fspath(path), palette, id_map)


def decode_mask(
    data: bytes,
    name: str,
    palette: Palette | Mapping[Color, int] | None = None,
    id_map: Mapping[int, int] | None = None,
) -> NDArray[Any]:
    """Decode the bytes of a mask file to class ids `(H, W)`, uint8 or (for ids over 255) int32.

    Grey values and the indices of palette files are the ids, unless `palette` is given: then every
    pixel's colour is looked up. A colour file whose three channels are equal everywhere counts as grey.

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
    picture = _open(data, name)
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
    return map_ids(ids, id_map) if id_map else ids


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
