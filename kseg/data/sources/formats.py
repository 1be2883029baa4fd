"""The table of source formats, and `open`: the one way to a source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from kseg import files
from kseg.data.coco import records as coco_records
from kseg.data.pictures import listing
from kseg.data.pictures.palette import PaletteLike
from kseg.data.sources import classes_file
from kseg.data.sources.folder import LAYOUT
from kseg.data.sources.source import Options, Source
from kseg.errors import DataError
from kseg.lazy import load_room
from kseg.text import printable

# Format -> its class, a `Source`, as `module:name`. It is opened as NAME:PLACE; folders are told apart by
# `layout`.
FORMATS: dict[str, str] = {
    "semantic": "kseg.data.sources.semantic_folder:SemanticFolder",
    "coco": "kseg.data.sources.coco_folder:CocoFolder",
    "sample": "kseg.data.sources.embedded:EmbeddedSample",
    "tfds": "kseg.data.sources.tfds_sets:TfdsSource",
}
LAYOUTS = ("semantic", "coco")
# Where other packages declare theirs.
GROUP = "kseg.sources"
BOTH = (
    "has label maps (labels/) and COCO instances: the label maps are read; to read the instances write "
    f'"truth": "instances" into {classes_file.FILE}'
)


def formats() -> dict[str, str]:
    """Return the table with what other installed packages declare in the entry-point group `kseg.sources`."""
    return {**{point.name: point.value for point in metadata.entry_points(group=GROUP)}, **FORMATS}


def open(  # the name that the package exports: kseg.data.open
    source: str | os.PathLike[str] | Source,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
) -> Source:
    """Open a data set; nothing is decoded or downloaded yet.

    Args:
        source: a folder (semantic or COCO layout; one with label maps and COCO instances is read by its label
            maps, and says so, unless its `classes.json` chooses); `tfds:NAME` or `tfds:NAME/CONFIG`;
            `sample:nuclei`; NAME:PLACE of another format; an opened Source is given back.
        cache_dir: where the TFDS form of a folder is kept. Default: `$KSEG_CACHE` or `~/.cache/kseg`.
        data_dir: where TFDS keeps its own sets. Default: TFDS' (`~/tensorflow_datasets`).
        palette: for colour-coded masks: a `Palette`, RGB colours in class order, {(r, g, b): id},
            or a palette file.
        id_map: {id in the files: class id}, for masks whose ids are not 0..C-1.

    Raises:
        DataError: with what is wrong and what to do, in one line.

    Example:
        >>> source = kseg.data.open("sample:nuclei")
        >>> source.spec.classes
        ('background', 'nucleus')
    """
    if isinstance(source, Source):
        return source
    opened = unchecked(source, Options(cache_dir, data_dir, palette, id_map))
    opened.refuse()
    for line in opened.remarks():
        listing.tell_once(line)
    return opened


def unchecked(source: str | os.PathLike[str], options: Options) -> Source:
    """Open a data set as a check does: what cannot be trained on is not refused, nothing is printed."""
    text = os.fspath(source)
    name, colon, place = text.partition(":")
    known = formats()
    if colon and name in known and name not in LAYOUTS:
        found: Source = resolve(known[name])(place, options)
        return found
    name, notes = layout(text)
    opened: Source = resolve(known[name])(text, options)
    opened.notes = {**opened.notes, **notes}
    return opened


def resolve(entry: str) -> Any:
    """Return what `module:name` names; what it lacks to be imported is said with the extra that brings it."""
    module, _, name = entry.partition(":")
    return getattr(load_room(module), name)


def layout(path: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """Return the format of a data folder, `"semantic"` or `"coco"`, and notes on that.

    Raises:
        DataError: missing, or of neither layout.
    """
    folder = files.resolved(path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"Data folder {printable(folder)} {what}. Give a folder with {LAYOUT}; or tfds:NAME; or "
            "sample:nuclei"
        )
    has_labels, has_coco = (folder / "labels").is_dir(), any(folder.glob(coco_records.PATTERN))
    if not (folder / "images").is_dir() or not (has_coco or has_labels):
        found = sorted(entry.name for entry in folder.iterdir())[:8]
        raise DataError(
            f"{printable(folder)} is not a data folder. Expected: {LAYOUT}. "
            f"Found: {printable(', '.join(found)) if found else 'nothing'}"
        )
    if not (has_labels and has_coco):
        return "coco" if has_coco else "semantic", {}
    file = folder / classes_file.FILE
    truth = classes_file.read(file).get("truth") if file.exists() else None
    if truth is None:
        return "semantic", {"two_truths": f"{printable(folder)} {BOTH}"}
    return "coco" if truth == "instances" else "semantic", {}
