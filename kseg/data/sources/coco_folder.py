"""The layout of a data folder with COCO instances."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kseg.data.coco import records as coco_records

from kseg.data.coco import masks as coco_masks
from kseg.data.pictures import images as image_files
from kseg.data import instances as instance_masks
from kseg.data.coco.records import Annotation, CocoFile
from kseg.data.sources.folder_base import Content, Folder, Item, ignore_id
from kseg.data.instances import Instances
from kseg.data.pictures.orientation import Drawn, Frame, truth_orientation, turn
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable


def folder_spec(files: Sequence[CocoFile]) -> tuple[Spec, dict[int, int]]:
    """Return the Spec of a folder's classes and {category id: class}: 0 is background, then in order of id.

    Raises:
        DataError: if the names are no classes, for example `background` itself.
    """
    categories = files[0].categories
    classes = (instance_masks.BACKGROUND, *categories.values())
    try:
        spec = Spec(classes=classes, ignore_id=ignore_id(len(classes)))
    except UsageError as error:
        raise DataError(f"'{printable(files[0].path)}': {printable(error, 400)}") from error
    return spec, {identity: index + 1 for index, identity in enumerate(categories)}


def paint(
    annotations: Sequence[Annotation],
    class_of: Mapping[int, int],
    size: tuple[int, int],
    image: Frame,
    drawn: Drawn | None,
    name: str,
) -> Instances:
    """Return the instances of one image, turned as the image is shown.

    Args:
        annotations: its usable annotations.
        class_of: category id -> class index.
        size: (height, width) that the COCO file states.
        image: how the image lies in its file.
        drawn: whether polygons lie on the picture as shown or as stored; None: `size` tells.
        name: of the image, for messages.

    Raises:
        OrientationError: if an EXIF tag turns the image and nothing tells whether it turns the polygons.
    """
    masks = (coco_masks.decode(coco_records.segmentation(annotation), size) for annotation in annotations)
    classes = [class_of[annotation.category_id] for annotation in annotations]
    crowd = [bool(annotation.iscrowd) for annotation in annotations]
    orientation = truth_orientation(size, image, drawn, f"'{name}'", "at the top of its instances_SPLIT.json")
    found = instance_masks.stack(masks, classes, crowd, size)
    return found.replace(turn(found.layers, orientation, axis=1))


class CocoFolder(Folder):
    """`images/SPLIT` and `instances_SPLIT.json`; class 0 is background, then categories in order of id."""

    def __init__(self, path: Path) -> None:
        files = coco_records.read_all(path)
        self._files = [file.path for file in files]
        for file in files:
            if file.faults:
                count = len(file.faults)
                raise DataError(
                    f"'{printable(file.path)}': {count} record{'s' if count > 1 else ''} cannot be used; the "
                    f"first: {file.faults[0]}. `kseg check-data` lists all"
                )
            if file.categories != files[0].categories:
                raise DataError(
                    f"'{printable(file.path)}' and '{printable(files[0].path)}' list different categories. "
                    "They must be equal"
                )
        spec, self.class_of = folder_spec(files)
        items = {file.split: self._list(path / "images" / file.split, file) for file in files}
        super().__init__(path, spec, items, "coco")

    @staticmethod
    def _list(folder: Path, file: CocoFile) -> tuple[Item, ...]:
        return tuple(
            Item(
                name=os.path.splitext(image.file_name)[0],
                image=folder / image.file_name,
                annotations=tuple(file.annotations.get(image.id, ())),
                size=(image.height, image.width),
                drawn=file.drawn,
            )
            for image in file.images
        )

    def _described_by(self) -> list[Path]:
        return self._files

    def check_complete(self, split: str) -> None:
        items = self.items[split]
        absent = [item for item in items if not exists(item.image)]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(items)} images that instances_{printable(split)}.json lists are "
                f"missing; the first is {printable(absent[0].image)}"
            )

    def read_instances(self, item: Item, image: Frame | None = None) -> Instances:
        """Return the instances of `item` as its image is shown.

        Args:
            item: one of `items`.
            image: how its image lies in the file; None: that is read.
        """
        if item.size is None:
            raise DataError(f"{printable(item.image)} has no size in its COCO file")
        image = image or image_files.read_frame(item.image)
        return paint(item.annotations, self.class_of, item.size, image, item.drawn, printable(item.image))

    def read(self, item: Item) -> Content:
        image, frame = image_files.read_framed(item.image)
        found = self.read_instances(item, frame)
        if image.shape[:2] != found.layers.shape[1:]:
            raise DataError(
                f"{printable(item.image)} is {image.shape[0]}x{image.shape[1]}, its COCO file says "
                f"{found.layers.shape[1]}x{found.layers.shape[2]} (height x width)"
            )
        return Content(image, instance_masks.semantic(found, self.spec.ignore_id), found)


def exists(path: Path) -> bool:
    """Return whether `path` is a regular file; a name that no system could store is none."""
    try:
        return path.is_file()
    except OSError:
        return False
