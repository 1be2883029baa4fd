"""`check`: read a whole data set and say everything that would make training wrong, with the repair."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kseg.data.pictures import listing

from kseg.data.sources import source
from kseg.data.checking.check_coco import check_coco
from kseg.data.checking.facts import UNKNOWN_FRAME, Facts, size_text
from kseg.data.sources.folder_base import Item
from kseg.data.sources.folders import SemanticFolder, layout, refuse_empty, refuse_maps
from kseg.data.pictures.palette import Palette
from kseg.data.checking.report import Finding, Report, SplitReport
from kseg.data.sources.source import Source
from kseg.data.counting.counts import Progress, evenly, id_counts, parallel
from kseg.data.checking.tally import Tally, add_missing_splits, add_special, add_split_findings
from kseg.errors import DataError, UsageError
from kseg.text import printable

__all__ = ["Finding", "Report", "SplitReport", "check"]

PaletteLike = Palette | Mapping[tuple[int, int, int], int] | str | os.PathLike[str]


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
        source: a data folder of either layout, `tfds:NAME`, `sample:NAME`, or an opened source.
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
    if isinstance(source, Source) or os.fspath(source).startswith(("tfds:", "sample:")):
        if palette is not None:
            raise UsageError("Argument `palette` of check is for folders: give it to kseg.data.open")
        opened = sources.open(source, id_map=id_map)
        if opened.folder is None:
            return _check_samples(opened, limit, progress)
        if isinstance(opened.folder, SemanticFolder):
            return _check_semantic(opened.folder, None, limit, progress)
        return check_coco(opened.folder.path, limit, progress)
    path, kind, notes = layout(source)
    if kind == "coco":
        refuse_maps(path, palette, id_map)
        return _with_notes(check_coco(path, limit, progress), notes)
    colors = None if palette is None else _as_palette(palette, path)
    folder = SemanticFolder(path, palette=colors, id_map=id_map)
    refuse_empty(folder)
    return _with_notes(_check_semantic(folder, colors, limit, progress), notes)


def _with_notes(report: Report, notes: list[str]) -> Report:
    for note in notes:
        report.add("info", "two_truths", note)
    return report


def _as_palette(palette: PaletteLike, path: Path) -> Palette:
    if isinstance(palette, Palette):
        return palette
    spec = SemanticFolder(path).spec
    if isinstance(palette, Mapping):
        return Palette(tuple(palette.items()), spec.classes)
    return Palette.from_file(palette, classes=spec.classes, void_id=spec.ignore_id)


def _check_semantic(
    folder: SemanticFolder, palette: Palette | None, limit: int | None, progress: Progress | None
) -> Report:
    report = Report(str(folder.path), folder.kind, folder.spec.classes, folder.spec.ignore_id, limit)
    tally = Tally(report, folder.spec, palette)
    _check_layout(folder, report)
    chosen = [(split, item) for split, items in folder.items.items() for item in evenly(items, limit)]
    seen: Iterator[Facts] = parallel(lambda entry: _look(folder, *entry), chosen)
    for facts in progress(seen, len(chosen)) if progress else seen:
        tally.add(facts)
    tally.finish()
    return report


def _check_layout(folder: SemanticFolder, report: Report) -> None:
    """Find split folders that are missing or empty, masks without an image, and what is no file."""
    add_split_findings(report, folder.path, [split for split, items in folder.items.items() if items])
    add_special(report, folder.path, folder.special)
    orphans: list[str] = []
    for labels in listing.subfolders(folder.path / "labels"):
        paired = {item.label for item in folder.items.get(labels.name, ())}
        orphans += [
            printable(path.relative_to(folder.path).as_posix())
            for path in listing.images(labels).files
            if path not in paired
        ]
    if orphans:
        report.add(
            "warning",
            "orphan_mask",
            f"{len(orphans)} masks have no image of the same name and are not used",
            "Add the images, or remove the masks; names must match without suffix",
            files=orphans,
        )


def _look(folder: SemanticFolder, split: str, item: Item) -> Facts:
    """Read one image and its mask; faults are noted, not raised."""
    facts = Facts(split, printable(item.image.relative_to(folder.path).as_posix()))
    frame = facts.look_at_image(item.image)
    if item.label is None:
        facts.fault("missing_mask", facts.where)
        return facts
    where = facts.mask_where = printable(item.label.relative_to(folder.path).as_posix())
    try:
        mask = folder.read_mask(item, frame or UNKNOWN_FRAME)
    except DataError as error:
        facts.mask_failed(error, where)
        return facts
    facts.counts = id_counts(mask)
    if facts.size is not None and mask.shape != facts.size:
        facts.fault("size_mismatch", where, size_text(mask.shape, facts.size))
    return facts


def _check_samples(source: Source, limit: int | None, progress: Progress | None) -> Report:
    """Check a TFDS set through its samples: ids, sizes and shares; its files are TFDS' business."""
    report = Report(source.name, source.kind, source.spec.classes, source.spec.ignore_id, limit)
    tally = Tally(report, source.spec)
    add_missing_splits(report, list(source.splits))

    def facts() -> Iterator[Facts]:
        for split in source.splits:
            for sample in source.samples(split, limit):
                seen = Facts(split, f"{split}/{sample.name}", size=sample.image.shape[:2])
                seen.counts = id_counts(sample.mask)
                if sample.mask.shape != seen.size:
                    seen.fault("size_mismatch", seen.where, size_text(sample.mask.shape, sample.image.shape))
                yield seen

    total = sum(min(count, limit or count) for count in source.splits.values())
    for entry in progress(facts(), total) if progress else facts():
        tally.add(entry)
    tally.finish()
    return report
