"""labelme: one JSON file per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path, PurePosixPath
from typing import Any

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
    name_below,
    plain_files,
    safe_name,
)
from kseg.data.pictures.images import decode_mask
from kseg.errors import DataError
from kseg.text import printable

_LISTS = ("labels.txt", "class_names.txt")
_MAX_BYTES = 512 * 2**20
# Pillow's rule for each, and how many points make one.
_AREAS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}
_NO_AREA = ("line", "linestrip", "point", "points")


class _Shape(records.Record, frozen=True, kw_only=True):
    label: records.Text
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _File(records.Record, frozen=True, kw_only=True):
    shapes: list[_Shape]
    imagePath: records.Text
    imageData: str | None = None
    imageHeight: records.Side | None = None
    imageWidth: records.Side | None = None


class Labelme(Format):
    """A folder of labelme's JSON files beside their images; `labels.txt` gives the order of classes."""

    name = "labelme"
    layout = "NAME.json files of labelme beside their images; optional labels.txt with one label a line"
    _table: ClassTable

    @classmethod
    def fits(cls, root: Path) -> bool:
        first = next((path for path in plain_files(root, ".json") if path.name != "classes.json"), None)
        if first is None:
            return False
        with first.open("rb") as handle:
            return b'"shapes"' in handle.read(2**16) and not (root / "meta.json").exists()

    def read(self) -> None:
        images, drawn = ImageFiles(self.root), list[str]()
        files = plain_files(self.root, ".json")
        self.needs(bool(files), "Found no JSON file")
        for file in files:
            with self.skipping():
                values = records.read(file, _File, max_bytes=_MAX_BYTES)
                self.pictures.append(self._picture(file, values, images))
                drawn += [shape.label for shape in values.shapes]
        listed = next((self.root / name for name in _LISTS if (self.root / name).is_file()), None)
        if listed is None:
            labels = sorted(set(drawn))
        else:
            labels = [line.strip() for line in read_lines(listed) if line.strip()]
        self._table = class_table(labels, self.options)
        self.classes = self._table.classes
        used = {picture.image for picture in self.pictures}
        self.drop("images without a JSON file", sum(path not in used for path in images.all))

    def _picture(self, file: Path, values: _File, images: ImageFiles) -> Picture:
        name = safe_name(name_below(file, self.root), f"'{file}'")
        try:
            image = images.find(values.imagePath, f"'{file}': field `imagePath`", file.parent)
        except DataError:
            if not values.imageData:
                raise
            try:
                data = base64.b64decode(values.imageData, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError(f"'{file}': field `imageData` is no base64: {error}") from error
            suffix = PurePosixPath(values.imagePath.replace("\\", "/")).suffix.lower() or ".png"
            return Picture(name, None, values, str(file), embedded=data, suffix=suffix)
        return Picture(name, image, values, str(file), suffix=image.suffix)

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        values: _File = picture.truth
        stated = (values.imageHeight or size[0], values.imageWidth or size[1])
        if stated != size:
            raise DataError(
                f"'{picture.where}': fields `imageHeight`, `imageWidth` say {stated[0]}x{stated[1]}; "
                f"{picture.source} is {size[0]}x{size[1]} (height x width)"
            )
        canvas = np.full(size, self._table.fill, label_dtype(self.void))
        for index, shape in enumerate(values.shapes):
            where = f"'{picture.where}': `shapes[{index}]`"
            value = self._table.id_of(shape.label, where)
            if shape.shape_type in _NO_AREA:
                self.drop(f"shapes without area ({shape.shape_type})")
                continue
            least = _AREAS.get(shape.shape_type)
            if least is None:
                raise DataError(
                    f"{where}: field `shape_type`: '{printable(shape.shape_type, 40)}' is not known. "
                    f"Known: {', '.join((*_AREAS, *_NO_AREA))}"
                )
            paint.check_points(shape.points, least, size, where)
            if shape.shape_type == "mask":
                self._place_mask(canvas, shape, value, where)
                continue
            if shape.shape_type in ("rectangle", "circle") and len(shape.points) != least:
                raise DataError(
                    f"{where}: field `points`: {len(shape.points)} points, a {shape.shape_type} has 2"
                )
            kind = "polygon" if shape.shape_type == "oriented_rectangle" else shape.shape_type
            canvas[paint.pillow(kind, shape.points, size)] = value
        return canvas

    @staticmethod
    def _place_mask(canvas: NDArray[Any], shape: _Shape, value: int, where: str) -> None:
        """A mask is a PNG as large as the box between its two points, corners included."""
        if shape.mask is None:
            raise DataError(f"{where}: a shape of type mask lacks the field `mask`")
        try:
            data = base64.b64decode(shape.mask, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where}: field `mask` is no base64: {error}") from error
        mask = decode_mask(data, f"{where} mask") > 0
        # labelme cuts fractions off here (utils/shape.py, shapes_to_label)
        (left, top), (right, bottom) = (tuple(int(entry) for entry in point) for point in shape.points[:2])
        if mask.shape != (bottom - top + 1, right - left + 1):
            raise DataError(
                f"{where}: field `mask` is {mask.shape[1]} wide, {mask.shape[0]} high; its points span "
                f"{right - left + 1} by {bottom - top + 1}"
            )
        paint.place(canvas, mask, left, top, value, where)


def read_lines(file: Path) -> list[str]:
    """Return the lines of a small UTF-8 text file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        if file.stat().st_size > records.MAX_BYTES:
            raise DataError(f"'{file}' has {file.stat().st_size:,} bytes: too large for a list")
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{file}' cannot be read as text: {error}") from error
