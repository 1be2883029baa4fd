"""Colour masks to class maps: exact match, and a report of what did not match."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import records
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.text import printable

Color = tuple[int, int, int]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
# A colour in a file.
Rgb = tuple[_Byte, _Byte, _Byte] | Annotated[str, msgspec.Meta(pattern="^#?[0-9a-fA-F]{6}$")]

VOID_NAMES = ("void", "ignore", "ignored", "unlabelled", "unlabeled")
# ASCII only: other scripts' digits are no numbers of a palette file.
_NUMBERS = re.compile(r"[0-9]{1,9}")
_PALETTE_FORM = 'Write {"road": [128, 64, 128], ...}, or lines such as: 128 64 128 road'
MAX_BYTES = 2**24


def hex_color(color: Sequence[int]) -> str:
    """Return `"#rrggbb"`."""
    return "#" + "".join(f"{int(value):02x}" for value in color)


def pack(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return one integer `r * 65536 + g * 256 + b` per RGB pixel: `(..., 3)` -> `(...)`."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def unpack(code: int) -> Color:
    """Return the RGB colour of a `pack`ed integer."""
    return (int(code) >> 16 & 255, int(code) >> 8 & 255, int(code) & 255)


def color_counts(pixels: NDArray[np.uint8]) -> dict[int, int]:
    """Return how many pixels have each `pack`ed colour."""
    codes, counts = np.unique(pack(pixels), return_counts=True)
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class UnknownColor:
    """A colour that stands in a mask and not in the palette."""

    color: Color
    count: int
    nearest: str
    distance: float

    @property
    def code(self) -> int:
        """The colour as one integer, as `pack` gives it."""
        return self.color[0] << 16 | self.color[1] << 8 | self.color[2]

    def __str__(self) -> str:
        return f"{self.color} x{self.count} (nearest: {self.nearest}, {self.distance:.0f} away)"


class UnknownColorError(DataError):
    """A mask has colours that the palette does not know; `unknown` lists them."""

    def __init__(self, message: str, unknown: list[UnknownColor]) -> None:
        super().__init__(message)
        self.unknown = unknown


@dataclass(frozen=True)
class Palette:
    """Which RGB colour means which class id.

    Args:
        colors: `((r, g, b), id)` pairs, 0-255; a class may have several colours, a colour one class.
        names: class names by id, for reports.

    Example:
        >>> palette = Palette.from_classes(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> ids = palette.to_ids(rgb)
    """

    colors: tuple[tuple[Color, int], ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.colors:
            raise UsageError("Palette `colors` must hold at least one colour. Received: an empty list")
        seen: dict[Color, int] = {}
        for values, index in self.colors:
            if len(values) != 3 or any(not 0 <= int(value) <= 255 for value in values):
                raise UsageError(f"Palette colours must be three numbers in 0-255. Received: {values!r}")
            color = (int(values[0]), int(values[1]), int(values[2]))
            if seen.setdefault(color, int(index)) != index:
                raise UsageError(
                    f"Palette colours must be distinct. Received: {color} for ids {seen[color]} and {index}"
                )
        object.__setattr__(self, "colors", tuple(seen.items()))

    @classmethod
    def from_classes(
        cls,
        classes: Sequence[str],
        palette: Iterable[Sequence[int]],
        *,
        void_color: Sequence[int] | None = None,
        void_id: int = 255,
    ) -> Palette:
        """Make a palette from names and colours in index order; `void_color` becomes `void_id`."""
        pairs = [((int(r), int(g), int(b)), index) for index, (r, g, b) in enumerate(palette)]
        if len(pairs) != len(classes):
            raise UsageError(
                f"A palette needs one colour per class ({len(classes)}). Received: {len(pairs)} colours"
            )
        if void_color is not None:
            void = (int(void_color[0]), int(void_color[1]), int(void_color[2]))
            if void not in {color for color, _ in pairs}:
                pairs.append((void, int(void_id)))
        return cls(tuple(pairs), tuple(classes))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        void_id: int | None = None,
    ) -> Palette:
        """Read a palette from a JSON, CSV or text file; see `read_colors` for the forms.

        Args:
            path: the file.
            classes: class names in index order: the file's names then get these ids (a name may have
                several colours). None: ids follow the order of the file.
            void_id: id of the colours named void, ignore, unlabelled ...; None: the file's, else 255.

        Raises:
            DataError: if the file is missing, not understood, or names a class that is not in `classes`.
        """
        rows, own_void_id = read_colors(Path(path))
        void_id = own_void_id if void_id is None else void_id
        ids = {name: index for index, name in enumerate(classes or ())}
        pairs = []
        for name, color in rows:
            if name.lower() in VOID_NAMES and name not in ids:
                pairs.append((color, void_id))
                continue
            if name not in ids and classes is not None:
                raise DataError(
                    f"'{printable(path)}' has a colour for '{printable(name, 80)}', which is not a class of "
                    f"the data.{did_you_mean(name, list(ids))}"
                )
            pairs.append((color, ids.setdefault(name, len(ids))))
        return cls(tuple(pairs), tuple(ids))

    def mapping(self) -> dict[Color, int]:
        """Return `{(r, g, b): id}`."""
        return dict(self.colors)

    def name(self, index: int) -> str:
        """Return the class name of an id, or `"id N"`."""
        return self.names[index] if 0 <= index < len(self.names) else f"id {index}"

    def to_ids(self, pixels: NDArray[np.uint8], name: str = "mask") -> NDArray[Any]:
        """Return the class map of an RGB mask: uint8 `(H, W, 3)` -> `(H, W)` uint8 (int32 for ids over 255).

        Raises:
            UnknownColorError: if a pixel's colour is not in the palette; lists colours and nearest classes.
        """
        codes = np.array([pack(np.asarray(color, np.uint8)) for color, _ in self.colors])
        ids = np.array([index for _, index in self.colors])
        order = np.argsort(codes)
        codes, ids = codes[order], ids[order]
        packed = pack(pixels)
        place = np.minimum(np.searchsorted(codes, packed), len(codes) - 1)
        if not np.array_equal(codes[place], packed):
            unknown = self.unknown(pixels)
            shown = "; ".join(map(str, unknown[:4])) + ("; ..." if len(unknown) > 4 else "")
            raise UnknownColorError(
                f"'{name}' has {len(unknown)} colours that the palette does not know: {shown}. "
                "Add them to the palette, or save the mask without anti-aliasing and as PNG",
                unknown,
            )
        small = ids.min() >= 0 and ids.max() <= 255
        return ids.astype(np.uint8 if small else np.int32)[place]

    def unknown(self, pixels: NDArray[np.uint8]) -> list[UnknownColor]:
        """Return the colours of an RGB mask that are not in the palette, most frequent first."""
        return self.unknown_counts(color_counts(pixels))

    def unknown_counts(self, counts: Mapping[int, int]) -> list[UnknownColor]:
        """The same from `{packed colour: pixels}`."""
        known = np.array([color for color, _ in self.colors], np.int64)
        have = {color for color, _ in self.colors}
        result = []
        for code, count in sorted(counts.items(), key=lambda item: -item[1]):
            color = unpack(code)
            if color not in have:
                away = np.sqrt(((known - color) ** 2).sum(axis=1))
                best = int(away.argmin())
                result.append(
                    UnknownColor(color, int(count), self.name(self.colors[best][1]), float(away[best]))
                )
        return result


PaletteLike = Palette | Mapping[tuple[int, int, int], int] | Sequence[Sequence[int]] | str | os.PathLike[str]


def palette_of_masks(values: Mapping[str, Any], classes: Sequence[str], ignore_id: int) -> Palette | None:
    """Return the palette that decodes the masks of a `classes.json`, or None when they hold ids.

    `"color_masks": true` says that the masks show the colours of `palette` (and `void_color`).

    Raises:
        DataError: if colours are missing, not understood, or stand for two classes.
    """
    if not values.get("color_masks", False):
        return None
    colors = values.get("palette") or []
    if len(colors) not in (len(classes), len(values["classes"])):
        raise DataError(
            f"`color_masks` needs a `palette` with one [r, g, b] per class ({len(values['classes'])}). "
            f"Received: {len(colors)} colours"
        )
    # A class that is void (the last one can be) is no class of the spec.
    pairs = [
        (parse_color(color), index if index < len(classes) else ignore_id)
        for index, color in enumerate(colors)
    ]
    void = values.get("void_color")
    if void is not None and parse_color(void) not in {color for color, _ in pairs}:
        pairs.append((parse_color(void), ignore_id))
    try:
        return Palette(tuple(pairs), tuple(classes))
    except UsageError as error:
        raise DataError(str(error)) from error


def parse_color(value: Any) -> Color:
    """Return `(r, g, b)` from three numbers in 0-255 or a string like `"#804080"`."""
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        return unpack(int(value.removeprefix("#"), 16))
    if (
        isinstance(value, Sequence)
        and len(value) == 3
        and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
    ):
        return (value[0], value[1], value[2])
    raise DataError(f"A colour must be [r, g, b] in 0-255 or '#rrggbb'. Received: {value!r}")


def read_colors(path: Path) -> tuple[list[tuple[str, Color]], int]:
    """Read `(name, colour)` rows and the void id from a palette file.

    Understood are a `classes.json` (`classes`, `palette`, `void_id`, `void_color`), a JSON object
    `{"road": [128, 64, 128], ...}` or list `[{"name": "road", "color": "#804080"}, ...]`, and text or CSV
    with a name and three numbers per line in either order (a header line is skipped).

    Raises:
        DataError: if the file is missing or has none of these forms.
    """
    where = f"The palette '{printable(path)}'"
    data = records.content(path, remedy=_PALETTE_FORM, max_bytes=MAX_BYTES)
    if data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"["):
        rows, void_id = _json_colors(data, where)
    else:
        try:
            rows, void_id = _text_colors(data.decode("utf-8-sig")), 255
        except (DataError, UnicodeDecodeError) as error:
            raise DataError(f"{where} is not understood: {printable(error, 200)}. {_PALETTE_FORM}") from error
    if not rows:
        raise DataError(f"{where} has no colours. {_PALETTE_FORM}")
    return rows, void_id


class _Row(records.Record, frozen=True):
    name: records.Text
    color: Rgb


class _Classes(records.Record, frozen=True):
    classes: list[records.Text]
    palette: list[Rgb]
    void_id: Annotated[int, msgspec.Meta(ge=0, le=65_535)] | None = None
    void_color: Rgb | None = None


def _json_colors(data: bytes, where: str) -> tuple[list[tuple[str, Color]], int]:
    def parse(kind: Any) -> Any:
        return records.parse(data, kind, where=where, remedy=_PALETTE_FORM, max_bytes=MAX_BYTES)

    if data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        return [(row.name, parse_color(row.color)) for row in parse(list[_Row])], 255
    if "classes" not in parse(dict[str, msgspec.Raw]):
        return [(name, parse_color(color)) for name, color in parse(dict[str, Rgb]).items()], 255
    values = parse(_Classes)
    if len(values.classes) != len(values.palette):
        raise DataError(
            f"{where} has {len(values.palette)} colours for {len(values.classes)} classes. {_PALETTE_FORM}"
        )
    rows = [(name, parse_color(color)) for name, color in zip(values.classes, values.palette, strict=True)]
    if values.void_color is not None and parse_color(values.void_color) not in {color for _, color in rows}:
        rows.append((VOID_NAMES[0], parse_color(values.void_color)))
    return rows, 255 if values.void_id is None else values.void_id


def _text_colors(text: str) -> list[tuple[str, Color]]:
    rows = []
    for number, line in enumerate(text.splitlines()):
        fields = [field for field in re.split(r"[,;\t ]+", line.strip()) if field]
        if not fields or fields[0].startswith("#"):
            continue
        if all(_NUMBERS.fullmatch(field) for field in fields[:3]) and len(fields) > 3:
            color, name = fields[:3], fields[3:]
        elif all(_NUMBERS.fullmatch(field) for field in fields[-3:]) and len(fields) > 3:
            color, name = fields[-3:], fields[:-3]
        elif number == 0:
            continue  # a header
        else:
            raise DataError(f"line {number + 1} is not a name and three numbers: {line[:80]!r}")
        rows.append((" ".join(name), parse_color([int(value) for value in color])))
    return rows
