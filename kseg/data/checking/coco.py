"""The check of a COCO-instance folder: its JSON files, then every image with its instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from kseg.data import instances as instance_masks
from kseg.data.checking.facts import Facts, size_text
from kseg.data.checking.report import Report
from kseg.data.checking.tally import Tally, add_special, add_split_findings
from kseg.data.coco import records as coco_records
from kseg.data.coco.records import CocoFile
from kseg.data.counting.counts import id_counts
from kseg.data.pictures import listing
from kseg.data.pictures.orientation import Frame
from kseg.data.sample import evenly
from kseg.data.sources.coco_folder import CocoFolder, SizeError, exists
from kseg.data.sources.folder import Item
from kseg.data.threads import parallel
from kseg.errors import DataError
from kseg.progress import Progress, silent
from kseg.text import printable

_SHOWN = 10
# Code of a fault -> what the records are, what to do.
_FAULTS = {
    "category_record": ("categories cannot be used", "Write an id and a name of its own for each"),
    "image_record": ("image records cannot be used", "Write id, file_name, width and height for each"),
    "duplicate_image_id": ("images share an id with another", "Give each image its own id"),
    "duplicate_file_name": ("images are listed twice", "Keep one record of each, with all annotations"),
    "annotation_record": (
        "annotations cannot be used",
        "Write image_id, category_id and segmentation for each",
    ),
    "unknown_image": ("annotations name an image that is not listed", "Add the image or remove them"),
    "category_out_of_range": (
        "annotations have a category that is not listed",
        "Add the categories, or remove the annotations",
    ),
    "no_segmentation": ("annotations have no segmentation (boxes only?)", "Annotate masks, or remove them"),
    "bad_segmentation": ("annotations have a segmentation that cannot be painted", "Export them again"),
}


def check_coco(source: CocoFolder, limit: int | None, progress: Progress | None) -> Report:
    """Check `images/SPLIT` against `instances_SPLIT.json`; see `kseg.data.check`."""
    path, files, spec = source.path, source.files, source.base_spec
    report = Report(str(path), source.kind, spec.classes, spec.ignore_id, limit)
    for file in files:
        _add_faults(file, report)
        if file.categories != files[0].categories:
            report.add(
                "error",
                "categories_differ",
                f"{printable(file.path.name)} lists other categories than {printable(files[0].path.name)}",
                "Write the same categories with the same ids in every split",
            )
        _add_empty(file, report)
    _check_folders(source, report)
    tally = Tally(report, spec)
    chosen = [(split, item) for split, items in source.items.items() for item in evenly(items, limit)]
    seen: Iterator[Facts] = parallel(lambda entry: _look(source, *entry), chosen)
    for facts in (progress or silent)(seen, len(chosen), "reading images"):
        tally.add(facts)
    for file in files:
        _add_odd(file, report)
    tally.finish()
    return report


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_SHOWN]) + (
        f", … ({len(labels)}; --json lists all)" if len(labels) > _SHOWN else ""
    )


def _add_faults(file: CocoFile, report: Report) -> None:
    for code, (what, fix) in _FAULTS.items():
        found = [fault for fault in file.faults if fault.code == code]
        if not found:
            continue
        more = _listed([fault.record for fault in found])
        report.add(
            "error",
            code,
            f"{len(found)} {what} in {printable(file.path.name)}: {more}; the first: {found[0].text}",
            fix,
            details={
                "split": file.split,
                "count": len(found),
                "records": [{"record": fault.record, "problem": fault.text} for fault in found],
            },
        )


def _add_odd(file: CocoFile, report: Report) -> None:
    for code, (what, fix) in coco_records.ODDITIES.items():
        labels = file.odd[code]
        if labels:
            text = f"{len(labels)} {what} in {printable(file.path.name)}: {_listed(labels)}"
            details = {"split": file.split, "count": len(labels), "records": labels}
            report.add("warning", code, text, fix, details=details)


def _add_empty(file: CocoFile, report: Report) -> None:
    empty = [
        printable(f"images/{file.split}/{image.file_name}")
        for image in file.images
        if image.id not in file.annotations
    ]
    if not empty:
        return
    share = len(empty) / len(file.images)
    report.add(
        "warning" if share > 0.5 else "info",
        "empty_images",
        f"{len(empty)} of {len(file.images)} images of split '{printable(file.split)}' have no instance: "
        "all background",
        "Right, if nothing is to be seen there"
        if share <= 0.5
        else "Check that all annotations were exported",
        files=empty,
        details={"split": file.split},
    )


def _check_folders(source: CocoFolder, report: Report) -> None:
    path, files, lone = source.path, source.files, source.unlisted_splits()
    for split in lone:
        text = f"Folder images/{printable(split)} has no instances_{printable(split)}.json: it is not used"
        fix = "Add that file, which lists its images and their annotations, or remove the folder"
        report.add("warning", "no_instances_file", text, fix, details={"split": split})
    add_split_findings(report, path, [file.split for file in files if file.images], lone)
    unlisted: list[str] = []
    special: list[Path] = []
    for file in files:
        names = {PurePosixPath(image.file_name) for image in file.images}
        folder = path / "images" / file.split
        found = listing.images(folder)
        special += found.special
        unlisted += [
            printable(image.relative_to(path).as_posix())
            for image in found.files
            if PurePosixPath(image.relative_to(folder).as_posix()) not in names
        ]
    add_special(report, path, special)
    if unlisted:
        report.add(
            "warning",
            "unlisted_image",
            f"{len(unlisted)} images are in no instances_SPLIT.json and are not used",
            "Add records for them (without annotations, if nothing is to be seen)",
            files=unlisted,
        )


def _look(source: CocoFolder, split: str, item: Item) -> Facts:
    """Read one image and paint its instances; faults are noted, not raised."""
    facts = Facts(split, printable(item.image.relative_to(source.path).as_posix()))
    annotations = source.annotations(item)
    if not exists(item.image):
        facts.fault("missing_image", facts.where)
        return facts
    frame = facts.look_at_image(item.image)
    try:
        # Where the image cannot be read, its record is looked at as it is.
        found = source.read_instances(item, frame or Frame(item.size or (0, 0)))
    except SizeError as error:
        facts.instances = len(annotations)
        told = size_text(error.recorded, facts.size or (0, 0)).replace("mask", "record", 1)
        facts.fault("size_mismatch", facts.where, told)
        return facts
    except DataError as error:
        facts.mask_failed(error, facts.where)
        return facts
    facts.instances = len(annotations)
    facts.counts = id_counts(instance_masks.semantic(found, source.base_spec.ignore_id))
    return facts
