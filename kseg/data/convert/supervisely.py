"""Supervisely: `meta.json` and, per dataset, `img/NAME.jpg` with `ann/NAME.jpg.json`."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg import records
from kseg.data.convert import paint
from kseg.data.convert.base import (
    ClassTable,
    Format,
    ImageFiles,
    Picture,
    class_table,
    label_dtype,
    safe_name,
    split_of,
)
from kseg.data.pictures.palette import Color, parse_color
from kseg.errors import DataError
from kseg.text import printable

_NO_AREA = ("line", "point", "graph", "multichannel_bitmap", "cuboid", "any")
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PNG = 64 * 2**20


class _Class(records.Record, frozen=True, kw_only=True):
    title: records.Text
    color: records.Text | None = None


class _Meta(records.Record, frozen=True, kw_only=True):
    classes: list[_Class]


class _Size(records.Record, frozen=True, kw_only=True):
    height: records.Side
    width: records.Side


class _Points(records.Record, frozen=True, kw_only=True):
    exterior: list[tuple[float, float]] = []  # noqa: RUF012 (msgspec copies it)
    interior: list[list[tuple[float, float]]] = []  # noqa: RUF012


class _Bitmap(records.Record, frozen=True, kw_only=True):
    data: str
    origin: tuple[int, int]


class _Object(records.Record, frozen=True, kw_only=True):
    classTitle: records.Text
    geometryType: records.Text | None = None
    points: _Points | None = None
    bitmap: _Bitmap | None = None


class _File(records.Record, frozen=True, kw_only=True):
    size: _Size
    objects: list[_Object]


class Supervisely(Format):
    """A project: datasets named train, val, test are the splits."""

    name = "supervisely"
    layout = "meta.json and DATASET/img/NAME.jpg with DATASET/ann/NAME.jpg.json"
    _table: ClassTable

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "meta.json").is_file() and any(path.is_dir() for path in root.rglob("ann"))

    def read(self) -> None:
        meta = self.root / "meta.json"
        self.needs(meta.is_file(), "Found no meta.json")
        titles: dict[str, Color | None] = {}
        for index, entry in enumerate(records.read(meta, _Meta).classes):
            try:
                titles[entry.title] = None if entry.color is None else parse_color(entry.color)
            except DataError as error:
                raise DataError(f"'{meta}': field `classes[{index}].color`: {error}") from error
        self._table = class_table(list(titles), self.options)
        self.classes = self._table.classes
        self.colors = self._table.colors_of(titles)
        images = ImageFiles(self.root)
        for folder in sorted(path for path in self.root.rglob("ann") if path.is_dir()):
            for file in sorted(path for path in folder.glob("*.json") if path.is_file()):
                with self.skipping():
                    self.pictures.append(self._picture(file, images))
        used = {picture.image for picture in self.pictures}
        self.drop("images without a JSON file", sum(path not in used for path in images.all))

    def _picture(self, file: Path, images: ImageFiles) -> Picture:
        dataset = file.parent.parent
        image = images.find(file.stem, f"'{file}'", dataset / "img")
        inside = dataset.relative_to(self.root)
        split = next((found for part in inside.parts if (found := split_of(part))), None)
        folders = [part for part in inside.parts if split_of(part) is None]
        name = safe_name("/".join([*folders, file.stem]), f"'{file}'")
        values = records.read(file, _File)
        return Picture(name, image, values, str(file), split=split, suffix=image.suffix)

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        values: _File = picture.truth
        if (values.size.height, values.size.width) != size:
            raise DataError(
                f"'{picture.where}': field `size` says {values.size.height}x{values.size.width}; "
                f"{picture.source} is {size[0]}x{size[1]} (height x width)"
            )
        canvas = np.full(size, self._table.fill, label_dtype(self.void))
        for index, entry in enumerate(values.objects):
            where = f"'{picture.where}': `objects[{index}]`"
            kind = entry.geometryType or ("bitmap" if entry.bitmap is not None else "polygon")
            value = self._table.id_of(entry.classTitle, where)
            if kind in _NO_AREA:
                self.drop(f"objects without area ({kind})")
            elif kind == "bitmap":
                _place_bitmap(canvas, entry, value, where)
            elif kind in ("polygon", "rectangle"):
                canvas[_area(kind, entry, size, where)] = value
            else:
                raise DataError(f"{where}: field `geometryType`: '{printable(kind, 40)}' is not known")
        return canvas


def _area(kind: str, entry: _Object, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    if entry.points is None:
        raise DataError(f"{where}: a {kind} lacks the field `points`")
    exterior, holes = entry.points.exterior, entry.points.interior
    paint.check_points(exterior, 3 if kind == "polygon" else 2, size, where)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = exterior[:2]
        exterior, holes = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], []
    for hole in holes:
        paint.check_points(hole, 3, size, f"{where}: interior")
    return paint.filled(exterior, holes, size)


def _place_bitmap(canvas: NDArray[Any], entry: _Object, value: int, where: str) -> None:
    """A bitmap is a PNG, zlib-compressed and in base64; its alpha channel, or any value but 0, is "on"."""
    if entry.bitmap is None:
        raise DataError(f"{where}: a bitmap lacks the field `bitmap`")
    try:
        packed = base64.b64decode(entry.bitmap.data, validate=True)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, _MAX_PNG)
        if unpacker.unconsumed_tail:
            raise DataError(f"{where}: field `bitmap.data` unpacks to more than {_MAX_PNG:,} bytes")
    except (binascii.Error, ValueError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: field `bitmap.data` is no zlib stream in base64: {error}") from error
    paint.place(canvas, _bits(data, canvas.shape, where), *entry.bitmap.origin, value, where)


def _bits(data: bytes, size: tuple[int, ...], where: str) -> NDArray[np.bool_]:
    """Decode a bitmap by OpenCV, as Supervisely's own reader does; a bomb is refused by its header."""
    wrong = DataError(f"{where}: field `bitmap.data` holds no PNG that can be read")
    if not data.startswith(_PNG) or len(data) < 24:
        raise wrong
    width, height = struct.unpack(">II", data[16:24])
    if height > size[0] or width > size[1]:
        raise DataError(
            f"{where}: field `bitmap.data` is {width} wide, {height} high; the image is {size[1]} wide, "
            f"{size[0]} high"
        )
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise wrong
    if pixels.ndim == 2:
        return pixels > 0
    return np.asarray(pixels[..., 3] > 0 if pixels.shape[2] == 4 else pixels.any(axis=2))
