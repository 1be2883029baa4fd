"""The one reading of a COCO instance file: typed records, and the list of those that are wrong.

One bad record does not hide the others: `read` raises for a file that is no COCO file at all, and notes
everything else. Whoever trains refuses a file with a fault; whoever checks shows them all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from kseg import records
from kseg.data.coco import masks as coco_masks
from kseg.data.coco.masks import Segmentation
from kseg.data.pictures.images import MAX_PIXELS
from kseg.data.pictures.orientation import Drawn
from kseg.errors import DataError
from kseg.records import Record, Side
from kseg.text import printable

MAX_BYTES = 2 * 2**30
PATTERN = "instances_*.json"
# More classes than ids of 16 bits can say, void apart, are none.
MAX_CATEGORIES = 65_534

Number = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Id = Number | Annotated[str, msgspec.Meta(max_length=4096)]
# Code of what can be used and looks like a mistake -> what it is, and what comes of it.
ODDITIES = {
    "duplicate_annotation_id": (
        "annotation ids occur twice",
        "Give each annotation its own id: COCO's evaluation needs that",
    ),
    "degenerate_polygon": (
        "annotations have a polygon of fewer than three points, or of points on one line",
        "It paints nothing",
    ),
    "outside_image": (
        "annotations reach out of their image",
        "What sticks out is cut off. Check that coordinates are pixels of the full-size image",
    ),
}
_NOTHING, _NULL = msgspec.Raw(b""), msgspec.Raw(b"null")
_Box = tuple[float, float, float, float]
# Annotation tools put corners on the border, and round.
_OUTSIDE = 1.0
_BOX_ONLY = "it has no `segmentation` (a box only?)"


class Category(Record, frozen=True):
    """A record of `categories`."""

    id: Number
    name: Name


class Image(Record, frozen=True):
    """A record of `images`; width and height in pixels."""

    id: Id
    file_name: Name
    width: Side
    height: Side


class Annotation(Record, frozen=True):
    """A record of `annotations`; `segmentation`, `bbox` and `area` stay text until they are used."""

    image_id: Id
    category_id: Number
    segmentation: msgspec.Raw = _NOTHING
    bbox: msgspec.Raw = _NOTHING
    area: msgspec.Raw = _NOTHING
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)] | bool | None = 0
    id: Id | None = None

    @property
    def label(self) -> str:
        """What messages call it."""
        if self.id is None:
            return f"annotation without id of image {printable(self.image_id, 60)}"
        return f"annotation {printable(self.id, 60)}"


class _File(Record, frozen=True):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]
    mask_orientation: Drawn | None = None


class _Named(Record, frozen=True):
    """What is read of a record that is wrong: which it is, and whose."""

    id: Any = None
    image_id: Any = None


@dataclass(frozen=True)
class Fault:
    """A record that cannot be used.

    Attributes:
        code: short stable name of the kind, as in `kseg.data.Report`.
        record: which one: `annotation 17`, or its place in the file where it has no id.
        text: what is wrong with it.
        image: id of the image that it is, or is of; None where that cannot be told.
        empty: whether it is an annotation whose segmentation holds nothing.
    """

    code: str
    record: str
    text: str
    image: Any = None
    empty: bool = False

    def __str__(self) -> str:
        return f"{self.record}: {self.text}"


@dataclass
class CocoFile:
    """What `instances_SPLIT.json` holds.

    Attributes:
        path: the file.
        split: SPLIT.
        categories: id -> name, in order of id.
        images: usable image records in order of their file names.
        annotations: image id -> its usable annotations.
        faults: everything that cannot be used.
        drawn: how polygons lie on images that an EXIF tag turns; None: sizes decide.
        odd: what can be used and looks like a mistake: code (`ODDITIES`) -> which annotations.
    """

    path: Path
    split: str
    categories: dict[int, str] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    annotations: dict[Any, list[Annotation]] = field(default_factory=lambda: defaultdict(list))
    faults: list[Fault] = field(default_factory=list)
    drawn: Drawn | None = None
    odd: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def fault(self, code: str, record: str, text: str, image: Any = None, empty: bool = False) -> None:
        """Note a record that cannot be used."""
        self.faults.append(Fault(code, record, text, image, empty))


def read(path: Path) -> CocoFile:
    """Read an instance file of up to 2 GiB.

    Raises:
        DataError: if it is no JSON object with `images`, `annotations` and `categories`, or has no category.
    """
    found = records.read(
        path, _File, remedy="A COCO instance file lists images, annotations, categories", max_bytes=MAX_BYTES
    )
    result = CocoFile(path, path.stem.removeprefix("instances_"), drawn=found.mask_orientation)
    _read_categories(result, found.categories)
    broken = _read_images(result, found.images)
    _read_annotations(result, found.annotations, broken)
    return result


def read_all(folder: Path) -> list[CocoFile]:
    """Read the instance files of a data folder, by name."""
    return [read(path) for path in sorted(folder.glob(PATTERN))]


def segmentation(annotation: Annotation) -> Segmentation:
    """Return the segmentation of a usable annotation."""
    return msgspec.json.decode(annotation.segmentation, type=Segmentation, strict=False)


def box(annotation: Annotation) -> tuple[float, float, float, float] | None:
    """Return (left, top, right, bottom) of an annotation's `bbox`; None where none can be used."""
    if annotation.bbox == _NOTHING:
        return None
    found, _ = next(iter(records.each([annotation.bbox], _Box)))
    return None if found is None else (found[0], found[1], found[0] + found[2], found[1] + found[3])


def written(
    entries: Sequence[tuple[str, Image, Sequence[Annotation]]],
    categories: Mapping[int, str],
    drawn: Drawn | None,
) -> bytes:
    """Return an instance file; images and annotations are numbered anew from 1.

    Args:
        entries: file name, record and annotations of each image.
        categories: id -> name.
        drawn: how polygons lie on images that an EXIF tag turns; None: sizes decide.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (file_name, image, own) in enumerate(entries, start=1):
        images.append({"id": number, "file_name": file_name, "height": image.height, "width": image.width})
        for annotation in own:
            values = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": annotation.category_id,
                "segmentation": annotation.segmentation,
                "iscrowd": int(annotation.iscrowd or 0),
            }
            for name, text, kind in (("bbox", annotation.bbox, _Box), ("area", annotation.area, float)):
                found = None if text == _NOTHING else next(iter(records.each([text], kind)))[0]
                if found is not None:
                    values[name] = found
            annotations.append(values)
    named = [{"id": identity, "name": name} for identity, name in categories.items()]
    document = {"images": images, "annotations": annotations, "categories": named}
    return msgspec.json.encode(document if drawn is None else {"mask_orientation": drawn, **document})


def _all(
    items: Sequence[msgspec.Raw], kind: type, what: str, code: str, result: CocoFile
) -> Iterator[tuple[Any, Any]]:
    """Yield each record with its id; a record that is none is noted, and comes as None."""
    for index, (found, wrong) in enumerate(records.each(items, kind)):
        if found is not None:
            yield found, found.id
            continue
        named, _ = next(iter(records.each([items[index]], _Named)))
        identity, of = (
            value if isinstance(value, int | str) else None
            for value in ((named.id, named.image_id) if named is not None else (None, None))
        )
        plural = {"category": "categories"}.get(what, f"{what}s")
        label = f"{plural}[{index}]" if identity is None else f"{what} {printable(identity, 60)}"
        result.fault(code, label, wrong, of)
        yield None, identity


def _read_categories(result: CocoFile, items: Sequence[msgspec.Raw]) -> None:
    if not items or len(items) > MAX_CATEGORIES:
        raise DataError(
            f"'{printable(result.path)}' lists {len(items):,} categories; annotations have names from 1 to "
            f"{MAX_CATEGORIES:,} of them"
        )
    found: dict[int, str] = {}
    names: set[str] = set()
    for category, identity in _all(items, Category, "category", "category_record", result):
        if category is None:
            continue
        if identity in found:
            result.fault("category_record", f"category {identity}", "its id occurs twice")
        elif category.name in names:
            text = f"its name '{printable(category.name, 60)}' occurs twice"
            result.fault("category_record", f"category {identity}", text)
        else:
            found[identity] = category.name
            names.add(category.name)
    result.categories = dict(sorted(found.items()))


def _read_images(result: CocoFile, items: Sequence[msgspec.Raw]) -> set[Any]:
    """Take in the image records; return the ids of those that cannot be used."""
    known: set[Any] = set()
    files: set[PurePosixPath] = set()
    broken: set[Any] = set()
    for image, identity in _all(items, Image, "image", "image_record", result):
        if image is None:
            broken.add(identity)
            continue
        label, wrong = f"image {printable(identity, 60)}", _image_problem(image)
        if wrong:
            result.fault("image_record", label, wrong)
            broken.add(identity)
        elif identity in known:
            result.fault(
                "duplicate_image_id", label, f"'{printable(image.file_name)}' shares its id", identity
            )
        elif PurePosixPath(image.file_name) in files:
            text = f"'{printable(image.file_name)}' is listed twice, so each holds a part of its annotations"
            result.fault("duplicate_file_name", label, text)
            broken.add(identity)
        else:
            known.add(identity)
            # As a path: `./a.png` and `.//a.png` are `a.png`.
            files.add(PurePosixPath(image.file_name))
            result.images.append(image)
    result.images.sort(key=lambda image: image.file_name)
    return broken - known


def _image_problem(image: Image) -> str:
    path = PurePosixPath(image.file_name)
    if path.is_absolute() or ".." in path.parts or "\0" in image.file_name or not path.name:
        received = printable(repr(image.file_name), 80)
        return f"`file_name` must name a file below images/SPLIT. Received: {received}"
    if image.width * image.height > MAX_PIXELS:
        return f"it is {image.height}x{image.width} (height x width); at most {MAX_PIXELS:,} pixels are read"
    return ""


def _read_annotations(result: CocoFile, items: Sequence[msgspec.Raw], broken: set[Any]) -> None:
    sizes = {image.id: (image.height, image.width) for image in result.images}
    usable: list[Annotation] = []
    ids: Counter[Any] = Counter()
    for annotation, identity in _all(items, Annotation, "annotation", "annotation_record", result):
        if identity is not None:
            ids[identity] += 1
        if annotation is None:
            continue
        if annotation.image_id not in sizes:
            # The record of a broken image is told of itself.
            if annotation.image_id not in broken:
                text = f"names image {printable(annotation.image_id, 60)}, which the file does not list"
                result.fault("unknown_image", annotation.label, text, annotation.image_id)
        elif annotation.category_id not in result.categories:
            text = f"names category {annotation.category_id}, which the file does not list"
            result.fault("category_out_of_range", annotation.label, text, annotation.image_id)
        elif annotation.segmentation in (_NOTHING, _NULL):
            result.fault("no_segmentation", annotation.label, _BOX_ONLY, annotation.image_id)
        else:
            usable.append(annotation)
    result.odd["duplicate_annotation_id"] = [
        printable(identity, 60) for identity, count in ids.items() if count > 1
    ]
    _check_segmentations(result, usable, sizes)


def _check_segmentations(
    result: CocoFile, usable: Sequence[Annotation], sizes: Mapping[Any, tuple[int, int]]
) -> None:
    texts = (annotation.segmentation for annotation in usable)
    for annotation, (found, wrong) in zip(usable, records.each(texts, Segmentation), strict=True):  # type: ignore[arg-type]
        if found is None:
            text = f"its segmentation is neither polygons nor RLE: {wrong}"
        elif found == []:
            result.fault("no_segmentation", annotation.label, _BOX_ONLY, annotation.image_id, empty=True)
            continue
        else:
            text = coco_masks.problem(found, sizes[annotation.image_id])
        if text:
            result.fault("bad_segmentation", annotation.label, text, annotation.image_id)
        else:
            result.annotations[annotation.image_id].append(annotation)
            _note_odd(result, annotation, found, sizes[annotation.image_id])


def _note_odd(result: CocoFile, annotation: Annotation, found: Segmentation, size: tuple[int, int]) -> None:
    if coco_masks.is_degenerate(found):
        result.odd["degenerate_polygon"].append(annotation.label)
    for bounds in (coco_masks.extent(found), box(annotation)):
        if bounds is None:
            continue
        left, top, right, bottom = bounds
        if min(left, top) < -_OUTSIDE or right > size[1] + _OUTSIDE or bottom > size[0] + _OUTSIDE:
            result.odd["outside_image"].append(annotation.label)
            return
