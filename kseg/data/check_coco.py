"""The check of a COCO-instance folder: its JSON files, then every image with its instances."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kseg.data import instances as instance_masks
from kseg.data.facts import Facts, size_text
from kseg.data.ids import listed
from kseg.data.images import IMAGE_SUFFIXES
from kseg.data.report import Report
from kseg.data.statistics import Progress, evenly, id_counts, parallel
from kseg.data.tally import Tally, add_split_findings
from kseg.errors import DataError
from kseg.spec import Spec

Record = Mapping[str, Any]


@dataclass
class _Split:
    """One `instances_SPLIT.json` after its structure was checked."""

    name: str
    images: list[Record] = field(default_factory=list)
    usable: dict[Any, list[Record]] = field(default_factory=lambda: defaultdict(list))


def check_coco(path: Path, limit: int | None, progress: Progress | None) -> Report:
    """Check `images/SPLIT` against `instances_SPLIT.json`; see `kseg.data.check`."""
    files = sorted(path.glob("instances_*.json"))
    documents = {file.stem.removeprefix("instances_"): _load(file) for file in files}
    categories = {split: _categories(values, split) for split, values in documents.items()}
    names = next(iter(categories.values()))
    spec = Spec(classes=(instance_masks.BACKGROUND, *names.values()))
    class_of = {identity: index + 1 for index, identity in enumerate(names)}
    report = Report(str(path), "coco", spec.classes, spec.ignore_id, limit)
    for split, own in categories.items():
        if own != names:
            first = next(iter(categories))
            report.add(
                "error",
                "categories_differ",
                f"instances_{split}.json lists other categories than instances_{first}.json",
                "Write the same categories with the same ids in every split",
            )
    splits = [_structure(split, values, class_of, report) for split, values in documents.items()]
    _check_folders(path, splits, report)
    tally = Tally(report, spec)
    chosen = [(split, image) for split in splits for image in evenly(split.images, limit)]
    seen: Iterator[Facts] = parallel(lambda entry: _look(path, class_of, spec, *entry), chosen)
    for facts in progress(seen, len(chosen)) if progress else seen:
        tally.add(facts)
    tally.finish()
    return report


def _load(file: Path) -> Record:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}. Restore it") from error
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(values, dict) or key not in values
    ]
    if missing:
        raise DataError(f"{file} is not a COCO instance file: it lacks {', '.join(missing)}")
    return values


def _categories(values: Record, split: str) -> dict[int, str]:
    try:
        found = {int(entry["id"]): str(entry["name"]) for entry in values["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"instances_{split}.json: a category lacks `id` or `name` ({error})") from error
    if not found:
        raise DataError(f"instances_{split}.json lists no categories, so annotations have no names")
    return dict(sorted(found.items()))


def _structure(name: str, values: Record, class_of: Mapping[int, int], report: Report) -> _Split:
    """Sort records into usable ones and faults."""
    split = _Split(name)
    faults: dict[str, list[str]] = defaultdict(list)
    known: set[Any] = set()
    for image in values["images"]:
        lacks = [key for key in ("id", "file_name", "width", "height") if key not in image]
        if lacks:
            faults["image_record"].append(
                f"{image.get('file_name', image.get('id'))} lacks {', '.join(lacks)}"
            )
        elif image["id"] in known:
            faults["duplicate_image_id"].append(str(image["file_name"]))
        else:
            known.add(image["id"])
            split.images.append(image)
    categories: Counter[Any] = Counter()
    annotation_ids: Counter[Any] = Counter()
    for record in values["annotations"]:
        annotation_ids[record.get("id")] += 1
        where = f"annotation {record.get('id')}"
        if record.get("image_id") not in known:
            faults["unknown_image"].append(f"{where} of image {record.get('image_id')}")
        elif record.get("category_id") not in class_of:
            categories[record.get("category_id")] += 1
        elif not record.get("segmentation"):
            faults["no_segmentation"].append(where)
        else:
            split.usable[record["image_id"]].append(record)
    if categories:
        report.add(
            "error",
            "category_out_of_range",
            f"{sum(categories.values())} annotations of instances_{name}.json have a category that the file "
            f"does not list: {', '.join(map(str, list(categories)[:8]))}. Listed: {listed(class_of)}",
            "Add the categories, or remove the annotations",
            details={"split": name, "categories": {str(key): count for key, count in categories.items()}},
        )
    _add_record_faults(name, faults, annotation_ids, report)
    empty = [
        f"images/{name}/{image['file_name']}" for image in split.images if image["id"] not in split.usable
    ]
    if empty:
        share = len(empty) / len(split.images)
        report.add(
            "warning" if share > 0.5 else "info",
            "empty_images",
            f"{len(empty)} of {len(split.images)} images of split '{name}' have no instance: all background",
            "Right, if nothing is to be seen there"
            if share <= 0.5
            else "Check that all annotations were exported",
            files=empty,
            details={"split": name},
        )
    return split


_RECORD_FAULTS = {
    "image_record": ("image records are incomplete", "Write id, file_name, width and height for each"),
    "duplicate_image_id": ("images share an id with another", "Give each image its own id"),
    "unknown_image": (
        "annotations name an image that the file does not list",
        "Add the image or remove them",
    ),
    "no_segmentation": ("annotations have no segmentation (boxes only?)", "Annotate masks, or remove them"),
}


def _add_record_faults(name: str, faults: Mapping[str, list[str]], ids: Counter[Any], report: Report) -> None:
    for code, (what, fix) in _RECORD_FAULTS.items():
        found = faults.get(code)
        if found:
            text = f"{len(found)} {what} in instances_{name}.json; the first: {found[0]}"
            report.add("error", code, text, fix, details={"split": name, "count": len(found)})
    twice = [identity for identity, count in ids.items() if count > 1]
    if twice:
        report.add(
            "warning",
            "duplicate_annotation_id",
            f"{len(twice)} annotation ids occur twice in instances_{name}.json; the first: {twice[0]}",
            "Give each annotation its own id: COCO's evaluation needs that",
            details={"split": name},
        )


def _check_folders(path: Path, splits: list[_Split], report: Report) -> None:
    if not (path / "images").is_dir():
        raise DataError(
            f"{path} has no folder `images`. Expected: images/SPLIT/NAME.jpg with instances_SPLIT.json"
        )
    add_split_findings(report, path, [split.name for split in splits if split.images])
    unlisted: list[str] = []
    for split in splits:
        names = {str(image["file_name"]) for image in split.images}
        folder = path / "images" / split.name
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES and file.relative_to(folder).as_posix() not in names:
                unlisted.append(file.relative_to(path).as_posix())
    if unlisted:
        report.add(
            "warning",
            "unlisted_image",
            f"{len(unlisted)} images are in no instances_SPLIT.json and are not used",
            "Add records for them (without annotations, if nothing is to be seen)",
            files=unlisted,
        )


def _look(path: Path, class_of: Mapping[int, int], spec: Spec, split: _Split, image: Record) -> Facts:
    """Read one image and paint its instances; faults are noted, not raised."""
    file = path / "images" / split.name / str(image["file_name"])
    facts = Facts(split.name, file.relative_to(path).as_posix())
    recorded = (int(image["height"]), int(image["width"]))
    records = split.usable.get(image["id"], [])
    if not file.is_file():
        facts.fault("missing_image", facts.where)
        return facts
    facts.look_at_image(file)
    if facts.size is not None and facts.size != recorded:
        facts.fault(
            "size_mismatch", facts.where, size_text(recorded, facts.size).replace("mask", "record", 1)
        )
    try:
        found = instance_masks.from_coco(records, class_of, recorded)
    except DataError as error:
        facts.fault("unreadable_mask", facts.where, str(error))
        return facts
    facts.instances = len(records)
    facts.counts = id_counts(instance_masks.semantic(found, spec.ignore_id))
    return facts
