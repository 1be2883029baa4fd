"""The check of a folder with label maps: every image with its mask."""

from __future__ import annotations

from collections.abc import Iterator

from kseg.data.checking.facts import UNKNOWN_FRAME, Facts, size_text
from kseg.data.checking.report import Report
from kseg.data.checking.tally import Tally, add_special, add_split_findings
from kseg.data.counting.counts import id_counts
from kseg.data.pictures import listing
from kseg.data.sample import evenly
from kseg.data.sources.folder import Item
from kseg.data.sources.semantic_folder import SemanticFolder
from kseg.data.threads import Progress, parallel
from kseg.errors import DataError
from kseg.text import printable


def check_semantic(source: SemanticFolder, limit: int | None, progress: Progress | None) -> Report:
    """Check `images/SPLIT` against `labels/SPLIT`; see `kseg.data.check`."""
    source.refuse()
    spec = source.base_spec
    report = Report(str(source.path), source.kind, spec.classes, spec.ignore_id, limit)
    tally = Tally(report, spec, source.palette)
    _check_layout(source, report)
    chosen = [(split, item) for split, items in source.items.items() for item in evenly(items, limit)]
    seen: Iterator[Facts] = parallel(lambda entry: _look(source, *entry), chosen)
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
