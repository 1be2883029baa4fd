"""`check`: read a whole data set and say everything that would make training wrong, with the repair."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kseg.data.checking.report import Finding, Report, SplitReport
from kseg.data.pictures.palette import PaletteLike
from kseg.data.sources.formats import resolve, unchecked
from kseg.data.sources.source import Options, Source
from kseg.data.threads import Progress
from kseg.errors import UsageError

__all__ = ["Finding", "Report", "SplitReport", "check"]


def check(
    source: str | os.PathLike[str] | Source,
    *,
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read every image and mask of a data set and report what is wrong with them.

    Folders are read file by file, past the cache, so that broken ones are reported and not refused. Only
    numbers are kept: memory does not grow with the images.

    Args:
        source: what `kseg.data.open` takes.
        palette: for colour masks: a `Palette`, `{(r, g, b): id}`, or a palette file, whose names are
            matched with the classes.
        id_map: `{id in the files: class id}`.
        limit: read at most that many images per split, evenly spaced; None reads all.
        progress: wraps the images, `(items, total) -> items`.

    Returns:
        a `Report`; `report.ok` is False when training would be wrong.

    Raises:
        DataError: if there is no data set at all: no such folder, neither layout, no `classes.json`.
    """
    if isinstance(source, Source):
        if palette is not None or id_map is not None:
            raise UsageError("An opened source has its palette and id_map: give them to kseg.data.open")
        opened = source
    else:
        opened = unchecked(source, Options(palette=palette, id_map=id_map))
    report: Report = resolve(opened.checked_by)(opened, limit, progress)
    for code, note in opened.notes.items():
        report.add("info", code, note)
    return report
