"""COCO: `instances_*.json` with polygons and RLE, kept as instances or painted into label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import records
from kseg.data import instances
from kseg.data.coco import masks as coco_masks
from kseg.data.coco.masks import Segmentation
from kseg.data.convert.base import Format, ImageFiles, Picture, plain_files, safe_name, split_of
from kseg.data.convert.paint import check_points
from kseg.errors import DataError
from kseg.text import printable

_MAX_BYTES = 2**30
_OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "image_info_", "stuff_")
_SNIFFED = 2**16


class _Image(records.Record, frozen=True, kw_only=True):
    id: int | str
    file_name: records.Text
    height: records.Side
    width: records.Side


class _Category(records.Record, frozen=True, kw_only=True):
    id: int
    name: records.Text


class _Annotation(records.Record, frozen=True, kw_only=True):
    image_id: int | str
    category_id: int
    segmentation: Segmentation
    id: int | str | None = None
    iscrowd: int = 0
    bbox: list[float] | None = None
    area: float | None = None


class _Reference(records.Record, frozen=True, kw_only=True):
    """What is read of an annotation that is wrong: whose it is."""

    image_id: int | str | None = None


class _File(records.Record, frozen=True, kw_only=True):
    """Images and annotations stay raw at first, so that a wrong one is known by its place."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[_Category]


class Coco(Format):
    """COCO instance files, as COCO, CVAT, Roboflow and Label Studio write them."""

    name = "coco"
    layout = (
        "instances_SPLIT.json (there or in annotations/), or SPLIT/_annotations.coco.json, with the images "
        "anywhere below"
    )
    categories: tuple[tuple[int, str], ...] = ()

    @classmethod
    def fits(cls, root: Path) -> bool:
        return any(_is_coco(file) for file in _candidates(root))

    def read(self) -> None:
        files = [file for file in _candidates(self.root) if _is_coco(file)]
        self.needs(bool(files), "Found no such JSON file")
        images, first = ImageFiles(self.root), files[0]
        for file in files:
            values = records.read(file, _File, max_bytes=_MAX_BYTES)
            own = tuple(sorted((entry.id, entry.name) for entry in values.categories))
            if len({identity for identity, _ in own}) != len(own) or not own:
                raise DataError(f"'{file}': field `categories` must list at least one, each id once")
            if self.categories and own != self.categories:
                raise DataError(f"'{file}' and '{first}' list different categories. They must be equal")
            self.categories = own
            self._add(file, values, images)
        self.classes = (instances.BACKGROUND, *(name for _, name in self.categories))
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"'{first}': field `categories`: two have one name, or one is called background")
        used = {picture.image for picture in self.pictures}
        self.drop("images that no JSON file lists", sum(path not in used for path in images.all))

    def _add(self, file: Path, values: _File, images: ImageFiles) -> None:
        entries: list[_Image] = []
        for index, raw in enumerate(values.images):
            with self.skipping():
                entries.append(records.parse(bytes(raw), _Image, where=f"'{file}': `images[{index}]`"))
        by_image: dict[int | str, list[_Annotation]] = {entry.id: [] for entry in entries}
        known, spoiled = {entry.id for entry in values.categories}, set[int | str | None]()
        for index, raw in enumerate(values.annotations):
            with self.skipping():
                where = f"'{file}': `annotations[{index}]`"
                try:
                    record = _read_annotation(raw, known, where)
                except DataError:
                    # Without it the image would show the object as background.
                    spoiled.add(records.parse(bytes(raw), _Reference, where=where).image_id)
                    raise
                if record.image_id not in by_image:
                    raise DataError(f"{where}: field `image_id`: no image has the id {record.image_id!r}")
                by_image[record.image_id].append(record)
        split = split_of(file.stem.removeprefix("instances_")) or split_of(file.parent.name)
        for entry in (entry for entry in entries if entry.id not in spoiled):
            with self.skipping():
                where = f"'{file}': image '{printable(entry.file_name, 80)}'"
                path = images.find(entry.file_name, where, file.parent, split)
                name = safe_name(entry.file_name, where)
                truth = (entry, by_image[entry.id])
                self.pictures.append(Picture(name, path, truth, str(file), split=split, suffix=path.suffix))

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        entry, annotations = picture.truth
        where = f"'{picture.where}': image '{printable(entry.file_name, 80)}'"
        if (entry.height, entry.width) != size:
            raise DataError(
                f"{where}: fields `height`, `width` say {entry.height}x{entry.width}; {picture.source} is "
                f"{size[0]}x{size[1]} (height x width)"
            )
        for record in annotations:
            what = f"{where}: annotation {record.id!r}: field `segmentation`"
            wrong = coco_masks.problem(record.segmentation, size)
            if wrong:
                raise DataError(f"{what}: {wrong}")
            for polygon in record.segmentation if isinstance(record.segmentation, list) else ():
                check_points(list(zip(polygon[::2], polygon[1::2], strict=True)), 0, size, what)
        class_of = {identity: index + 1 for index, (identity, _) in enumerate(self.categories)}
        found = instances.stack(
            (coco_masks.decode(record.segmentation, size) for record in annotations),
            [class_of[record.category_id] for record in annotations],
            [bool(record.iscrowd) for record in annotations],
            size,
        )
        empty = len(found) - len(found.ids())
        if empty:
            self.drop("annotations that cover no pixel (boxes, or polygons of two points)", empty)
        label = instances.semantic(found, self.void)
        if self.options.unlabeled == "void":
            bare = ~(found.layers > 0).any(axis=0)
            label = np.where(bare, np.array(self.void, label.dtype), label)
        return label

    def instances_json(self, pictures: list[tuple[Picture, str]]) -> bytes:
        """Return the COCO file of some pictures of the new folder, given with their file names there."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (picture, file_name) in enumerate(pictures, start=1):
            entry, own = picture.truth
            images.append(
                {"id": number, "file_name": file_name, "height": entry.height, "width": entry.width}
            )
            for record in own:
                annotations.append({**_plain(record), "id": len(annotations) + 1, "image_id": number})
        categories = [{"id": identity, "name": name} for identity, name in self.categories]
        values = {"images": images, "annotations": annotations, "categories": categories}
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def _read_annotation(raw: msgspec.Raw, known: set[int], where: str) -> _Annotation:
    record = records.parse(bytes(raw), _Annotation, where=where)
    if record.category_id not in known:
        raise DataError(f"{where}: field `category_id`: unknown category {record.category_id}")
    return record


def _plain(record: _Annotation) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(record)
    return {key: value for key, value in values.items() if value is not None}


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
