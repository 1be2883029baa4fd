"""CVAT: the XML of "CVAT for images 1.1", with polygons, boxes, ellipses and masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException
from numpy.typing import NDArray

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

_MAX_BYTES = 2**30
_LARGEST_SIDE = 2**20
_AREAS = ("polygon", "box", "ellipse", "mask")
_NO_AREA = ("polyline", "points", "skeleton", "cuboid")


@dataclass(frozen=True)
class _Shape:
    """One drawn element: its tag, its attributes as they stand, its place in the order of painting."""

    kind: str
    values: Mapping[str, str]
    where: str
    z_order: int

    def text(self, key: str) -> str:
        """Return an attribute."""
        value = self.values.get(key)
        if value is None:
            raise DataError(f"{self.where}: attribute `{key}` is missing")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        if default is not None and key not in self.values:
            return default
        return _number(self.text(key), f"{self.where}: attribute `{key}`")

    def points(self) -> list[paint.Point]:
        """Return the pairs of `points="x,y;x,y"`."""
        where = f"{self.where}: attribute `points`"
        pairs = [pair.split(",") for pair in self.text("points").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(
                f"{where} must be like '1.5,2;3,4'. Received: '{printable(self.values['points'], 60)}'"
            )
        return [(_number(x, where), _number(y, where)) for x, y in pairs]


@dataclass
class _Image:
    name: str
    size: tuple[int, int]
    subset: str | None
    shapes: list[_Shape] = field(default_factory=list)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} must be a number. Received: '{printable(text, 40)}'")
    return value


def _whole(text: str, where: str, least: int, most: int) -> int:
    value = _number(text, where)
    if value != int(value) or not least <= value <= most:
        raise DataError(
            f"{where} must be a whole number in {least}-{most}. Received: '{printable(text, 40)}'"
        )
    return int(value)


class CvatXml(Format):
    """`annotations.xml` of "CVAT for images 1.1" beside its images."""

    name = "cvat"
    layout = (
        "annotations.xml of 'CVAT for images 1.1' with images/, or the export 'Segmentation mask 1.1' "
        "(labelmap.txt, SegmentationClass/, JPEGImages/)"
    )
    _table: ClassTable

    @classmethod
    def fits(cls, root: Path) -> bool:
        for file in root.glob("*.xml"):
            if file.is_file():
                with file.open("rb") as handle:
                    if b"<annotations" in handle.read(2**12):
                        return True
        return False

    def read(self) -> None:
        files = sorted(file for file in self.root.glob("*.xml") if file.is_file())
        self.needs(bool(files), "Found no XML file")
        images, colors, drawn = ImageFiles(self.root), dict[str, Color](), list[str]()
        for file in files:
            for found in _parse(file, colors):
                with self.skipping():
                    where = f"'{file}': image '{printable(found.name, 80)}'"
                    split = split_of(found.subset) if found.subset else None
                    split = split or split_of(found.name.replace("\\", "/").split("/")[0])
                    path = images.find(found.name, where, self.root / "images", split)
                    name = safe_name(found.name, where)
                    self.pictures.append(
                        Picture(name, path, found, str(file), split=split, suffix=path.suffix)
                    )
                    drawn += [shape.values.get("label", "") for shape in found.shapes if shape.kind in _AREAS]
        labels = list(colors) if colors else sorted(set(drawn))
        self._table = class_table(labels, self.options)
        self.classes = self._table.classes
        self.colors = self._table.colors_of(colors)
        used = {picture.image for picture in self.pictures}
        self.drop("images that the XML does not list", sum(path not in used for path in images.all))

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        found: _Image = picture.truth
        if found.size != size:
            raise DataError(
                f"'{picture.where}': image '{printable(found.name, 80)}': attributes `height`, `width` say "
                f"{found.size[0]}x{found.size[1]}; {picture.source} is {size[0]}x{size[1]} (height x width)"
            )
        canvas = np.full(size, self._table.fill, label_dtype(self.void))
        for shape in sorted(found.shapes, key=lambda entry: entry.z_order):
            if shape.kind in _NO_AREA:
                self.drop(f"shapes without area ({shape.kind})")
                continue
            value = self._table.id_of(shape.text("label"), shape.where)
            if shape.kind == "mask":
                _place_mask(canvas, shape, value)
                continue
            points = _outline(shape)
            paint.check_points(points, 3, size, shape.where)
            canvas[paint.coco(points, size)] = value
        return canvas


def _outline(shape: _Shape) -> list[paint.Point]:
    """Return polygon, box or ellipse as a polygon."""
    if shape.kind == "polygon":
        return shape.points()
    turn = shape.number("rotation", 0.0)
    if shape.kind == "ellipse":
        center = (shape.number("cx"), shape.number("cy"))
        points = paint.ellipse(center, (shape.number("rx"), shape.number("ry")))
    else:
        x0, y0, x1, y1 = (shape.number(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        center = ((x0 + x1) / 2, (y0 + y1) / 2)
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return paint.turned(points, center, turn) if turn else points


def _place_mask(canvas: NDArray[Any], shape: _Shape, value: int) -> None:
    """A mask is a box with runs of off and on pixels, row by row, off first."""
    left, top, width, height = (
        _whole(shape.text(key), f"{shape.where}: attribute `{key}`", 0, _LARGEST_SIDE)
        for key in ("left", "top", "width", "height")
    )
    most = canvas.size
    runs = [_whole(run, f"{shape.where}: attribute `rle`", 0, most) for run in shape.text("rle").split(",")]
    if sum(runs) != width * height or width * height > most:
        raise DataError(
            f"{shape.where}: attribute `rle` holds {sum(runs)} pixels; its box has {width * height} "
            f"({width} wide, {height} high)"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    paint.place(canvas, pixels, left, top, value, shape.where)


def _parse(file: Path, colors: dict[str, Color]) -> Iterator[_Image]:
    """Yield the images of a file, and fill `colors` with its labels, element by element."""
    if file.stat().st_size > _MAX_BYTES:
        raise DataError(f"'{file}' has {file.stat().st_size:,} bytes; at most {_MAX_BYTES:,} are read")
    try:
        with file.open("rb") as handle:
            for _, element in defusedxml.ElementTree.iterparse(handle, forbid_dtd=True):
                if element.tag == "label" and element.find("name") is not None:
                    _read_label(element, colors, file)
                elif element.tag == "track":
                    raise DataError(
                        f"'{file}' is 'CVAT for video' (it has a <track>). Export it as 'CVAT for images "
                        "1.1' or 'Segmentation mask 1.1'"
                    )
                elif element.tag == "image":
                    yield _read_image(element, file)
                    element.clear()
    except ParseError as error:
        raise DataError(f"'{file}' is no valid XML: {error}") from error
    except DefusedXmlException as error:
        raise DataError(f"'{file}' declares entities or a document type, which CVAT never does") from error
    except OSError as error:
        raise DataError(f"'{file}' cannot be read: {error.strerror or error}") from error


def _read_label(element: Element, colors: dict[str, Color], file: Path) -> None:
    name = (element.findtext("name") or "").strip()
    color = (element.findtext("color") or "").strip()
    try:
        colors[name] = parse_color(color) if color else (0, 0, 0)
    except DataError as error:
        raise DataError(f"'{file}': label '{printable(name, 60)}': field `color`: {error}") from error


def _read_image(element: Element, file: Path) -> _Image:
    name = element.get("name")
    if not name:
        raise DataError(f"'{file}': image {element.get('id')}: attribute `name` is missing")
    where = f"'{file}': image '{printable(name, 80)}'"
    height, width = (
        _whole(element.get(key) or "", f"{where}: attribute `{key}`", 1, _LARGEST_SIDE)
        for key in ("height", "width")
    )
    image = _Image(name, (height, width), element.get("subset"))
    for index, shape in enumerate(entry for entry in element if entry.tag in (*_AREAS, *_NO_AREA)):
        place = f"{where}: <{shape.tag}> {index + 1}"
        order = _whole(shape.get("z_order", "0"), f"{place}: attribute `z_order`", -(2**31), 2**31)
        image.shapes.append(_Shape(shape.tag, dict(shape.attrib), place, order))
    return image
