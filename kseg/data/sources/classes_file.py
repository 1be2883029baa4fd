"""`classes.json`: what the ids and colours of a folder's masks mean, as a typed record."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from kseg import records
from kseg.data.label_spaces import fill_in
from kseg.data.pictures.orientation import Drawn
from kseg.data.pictures.palette import Rgb, parse_color
from kseg.errors import DataError, KsegError, did_you_mean
from kseg.records import Record
from kseg.text import printable

FILE = "classes.json"
EXAMPLE = '{"classes": ["road", "car"], "palette": [[128, 64, 128], [64, 0, 128]], "void_id": 255}'
MAX_BYTES = 2**24
# Ids of 16 bits, the last of which is void.
MAX_CLASSES = 65_535

ClassName = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"\S")]
ClassId = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
# A mask of 32 bits may hold any.
FileId = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
IdMap = dict[FileId, ClassId]


class ClassesFile(Record, frozen=True):
    """The fields of `classes.json`; see `kseg.data.sources.semantic_folder.SemanticFolder`."""

    classes: Annotated[list[ClassName], msgspec.Meta(min_length=1, max_length=MAX_CLASSES)] | None = None
    label_space: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    palette: Annotated[list[Rgb], msgspec.Meta(max_length=MAX_CLASSES)] | None = None
    void_id: ClassId | None = None
    void_color: Rgb | None = None
    color_masks: bool | None = None
    id_map: IdMap | None = None
    truth: Literal["labels", "instances"] | None = None
    mask_orientation: Drawn | None = None


def read(path: Path) -> dict[str, Any]:
    """Return the fields that a `classes.json` gives, its label space written out; checked, null left out.

    Raises:
        DataError: naming file, field, what was found and what was expected.
    """
    found = records.read(path, ClassesFile, remedy=f"Example: {EXAMPLE}", max_bytes=MAX_BYTES)
    values = {name: getattr(found, name) for name in found.__struct_fields__}
    for key in records.read(path, dict[str, Any], max_bytes=MAX_BYTES):
        # Other programs may keep fields of their own here (`void_name`, `num_classes`); one that is ours but
        # for a letter or two is a typing mistake.
        hint = "" if key in values else did_you_mean(key, list(values), likeness=0.8)
        if hint:
            raise DataError(f"'{printable(path)}' has no field `{printable(key, 60)}`.{hint}")
    twice = [name for name, count in Counter(found.classes or ()).items() if count > 1]
    if twice:
        names = ", ".join(f"'{printable(name, 60)}'" for name in twice[:5])
        raise DataError(
            f"'{printable(path)}': field `classes`: names must be distinct. Received twice: {names}"
        )
    given = {name: value for name, value in values.items() if value is not None}
    if found.palette is not None:
        given["palette"] = [parse_color(color) for color in found.palette]
    if found.void_color is not None:
        given["void_color"] = parse_color(found.void_color)
    try:
        return fill_in(given)
    except DataError as error:
        raise DataError(f"'{printable(path)}': {error}") from error


def id_map(
    values: Mapping[Any, Any] | None, error: type[KsegError], where: str = "Argument `id_map`"
) -> dict[int, int] | None:
    """Check an `id_map` that came as an argument."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise error(f'{where} must be like {{"255": 1}}. Received: {printable(repr(values), 60)}')
    plain = {_integer(old): _integer(new) for old, new in values.items()}
    return records.convert(plain, IdMap, where=where, error=error, remedy='Write for example {"255": 1}')


def _integer(value: Any) -> Any:
    """NumPy's integers and text are integers too; the rest stays, to be refused as what it is."""
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value):
        return int(value)
    return value
