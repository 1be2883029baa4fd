"""COCO: `instances_*.json` with polygons and RLE, kept as instances or painted into label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.data import instances
from kseg.data.coco import masks as coco_masks
from kseg.data.coco import records as coco_records
from kseg.data.coco.records import CocoFile
from kseg.data.convert.base import Format, ImageFiles, Picture, plain_files, safe_name, split_of
from kseg.data.convert.paint import check_points
from kseg.data.pictures.orientation import Drawn
from kseg.errors import DataError
from kseg.text import printable

_OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "image_info_", "stuff_")
_SNIFFED = 2**16
_NO_PIXEL = "annotations that cover no pixel (boxes, or polygons of two points)"


class Coco(Format):
    """COCO instance files, as COCO, CVAT, Roboflow and Label Studio write them."""

    name = "coco"
    holds_instances = True
    layout = (
        "instances_SPLIT.json (there or in annotations/), or SPLIT/_annotations.coco.json, with the images "
        "anywhere below"
    )
    _categories: dict[int, str]

    @classmethod
    def fits(cls, root: Path) -> bool:
        return any(_is_coco(file) for file in _candidates(root))

    def read(self) -> None:
        files = [coco_records.read(path) for path in _candidates(self.root) if _is_coco(path)]
        self.needs(bool(files), "Found no such JSON file")
        images, first = ImageFiles(self.root), files[0]
        for file in files:
            wrong = [fault for fault in file.faults if fault.code == "category_record"]
            if wrong:
                raise DataError(f"'{file.path}': field `categories`: {wrong[0]}")
            for what, own, others in (
                ("categories", file.categories, first.categories),
                ("`mask_orientation`", file.drawn, first.drawn),
            ):
                if own != others:
                    raise DataError(
                        f"'{file.path}' and '{first.path}' list different {what}. They must be equal"
                    )
            self._add(file, images)
        self._categories, self.drawn = first.categories, first.drawn
        self.classes = (instances.BACKGROUND, *self._categories.values())
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"'{first.path}': field `categories`: one is called background")
        used = {picture.image for picture in self.pictures}
        self.drop("images that no JSON file lists", sum(path not in used for path in images.all))

    def _add(self, file: CocoFile, images: ImageFiles) -> None:
        names = {image.id: image.file_name for image in file.images}
        spoiled = set[Any]()
        for fault in file.faults:
            if fault.empty:
                self.drop(_NO_PIXEL)
                continue
            # Without it the image would show the object as background.
            spoiled.add(fault.image)
            with self.skipping():
                of = f"image '{printable(names[fault.image], 80)}': " if fault.image in names else ""
                raise DataError(f"'{file.path}': {of}{fault}")
        split = split_of(file.path.stem.removeprefix("instances_")) or split_of(file.path.parent.name)
        for entry in (entry for entry in file.images if entry.id not in spoiled):
            with self.skipping():
                where = f"'{file.path}': image '{printable(entry.file_name, 80)}'"
                path = images.find(entry.file_name, where, file.path.parent, split)
                name = safe_name(entry.file_name, where)
                truth = (entry, file.annotations.get(entry.id, []))
                self.pictures.append(Picture(name, path, truth, str(file.path), split, suffix=path.suffix))

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        entry, annotations = picture.truth
        where = f"'{picture.where}': image '{printable(entry.file_name, 80)}'"
        if (entry.height, entry.width) != size:
            raise DataError(
                f"{where}: fields `height`, `width` say {entry.height}x{entry.width}; {picture.source} is "
                f"{size[0]}x{size[1]} (height x width)"
            )
        drawn = [coco_records.segmentation(record) for record in annotations]
        for record, shape in zip(annotations, drawn, strict=True):
            what = f"{where}: {record.label}: field `segmentation`"
            for polygon in shape if isinstance(shape, list) else ():
                check_points(list(zip(polygon[::2], polygon[1::2], strict=True)), 0, size, what)
        class_of = {identity: index + 1 for index, identity in enumerate(self._categories)}
        found = instances.stack(
            coco_masks.masks(drawn, size),
            [class_of[record.category_id] for record in annotations],
            [bool(record.iscrowd) for record in annotations],
            where,
        )
        empty = len(found) - len(found.ids())
        if empty:
            self.drop(_NO_PIXEL, empty)
        label = instances.semantic(found, self.void)
        if self.options.unlabeled == "void":
            bare = ~(found.layers > 0).any(axis=0)
            label = np.where(bare, np.array(self.void, label.dtype), label)
        return label

    def instances_json(self, pictures: list[tuple[Picture, str]], drawn: Drawn | None) -> bytes:
        entries = [(file_name, *picture.truth) for picture, file_name in pictures]
        return coco_records.written(entries, self._categories, drawn)


def _candidates(root: Path) -> list[Path]:
    """Return the JSON files that may be COCO's: at the root, in `annotations/`, or Roboflow's."""
    return [
        path
        for path in plain_files(root, ".json")
        if not path.name.startswith(_OTHER_TASKS)
        and (
            path.parent in (root, root / "annotations")
            or path.name.endswith(".coco.json")
            or path.name.startswith("instances_")
        )
    ]


def _is_coco(file: Path) -> bool:
    """Look for COCO's keys at the start and the end of a file, which may be large."""
    with file.open("rb") as handle:
        head = handle.read(_SNIFFED)
        handle.seek(max(0, file.stat().st_size - _SNIFFED))
        ends = head + handle.read(_SNIFFED)
    if b'"shapes"' in head:
        return False
    named = file.name.startswith("instances") or file.name.endswith(".coco.json")
    return named or sum(key in ends for key in (b'"images"', b'"annotations"', b'"categories"')) >= 2
