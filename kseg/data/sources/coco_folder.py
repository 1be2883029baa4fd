"""The layout of a data folder with COCO instances."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kseg.data import instances as instance_masks
from kseg.data.coco import masks as coco_masks
from kseg.data.coco import records as coco_records
from kseg.data.coco.records import Annotation, CocoFile
from kseg.data.ids import ignore_id
from kseg.data.instances import Instances
from kseg.data.pictures import images as image_files
from kseg.data.pictures import listing
from kseg.data.pictures.orientation import Frame, truth_orientation, turn
from kseg.data.sample import Sample
from kseg.data.sources.folder import FolderSource, Item
from kseg.data.sources.source import NO_OPTIONS, Options, base_split
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


class SizeError(DataError):
    """An image has another size than its record says.

    Attributes:
        recorded: (height, width) of the record, as the image is shown.
    """

    def __init__(self, name: str, size: tuple[int, int], recorded: tuple[int, int]) -> None:
        self.recorded = recorded
        super().__init__(
            f"{name} is {size[0]}x{size[1]}, its COCO file says {recorded[0]}x{recorded[1]} (height x width)"
        )


class CocoFolder(FolderSource):
    """`images/SPLIT` and `instances_SPLIT.json`; class 0 is background, then categories in order of id.

    Attributes:
        files: what the instance files hold; `refuse` is for their faults.
        class_of: category id -> class.
    """

    kind = "coco"
    checked_by = "kseg.data.checking.coco:check_coco"
    with_instances = True

    def __init__(self, place: str | Path, options: Options = NO_OPTIONS) -> None:
        path = self._place(place, options)
        if options.palette is not None or options.id_map is not None:
            raise UsageError(
                f"`palette` and `id_map` are for label maps; {printable(path)} has COCO instances"
            )
        self.files = coco_records.read_all(path)
        self.base_spec, self.class_of = folder_spec(self.files)
        self.described_by = [file.path for file in self.files]
        self.items = {file.split: self._list(path / "images" / file.split, file) for file in self.files}
        self.content = {}

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

    def refuse(self) -> None:
        """Raise DataError for a record that cannot be used, and where no split has an image."""
        for file in self.files:
            if file.faults:
                count = len(file.faults)
                raise DataError(
                    f"'{printable(file.path)}': {count} record{'s' if count > 1 else ''} cannot be used; the "
                    f"first: {file.faults[0]}. `kseg check-data` lists all"
                )
            if file.categories != self.files[0].categories:
                raise DataError(
                    f"'{printable(file.path)}' and '{printable(self.files[0].path)}' list different "
                    "categories. They must be equal"
                )
        super().refuse()

    def remarks(self) -> list[str]:
        odd = [
            f"{len(labels)} {what} in {printable(file.path.name)}, the first: {labels[0]}. {fix}. "
            "`kseg check-data` lists all"
            for file in self.files
            for code, (what, fix) in coco_records.ODDITIES.items()
            if (labels := file.odd[code])
        ]
        return [*super().remarks(), *odd]

    def unlisted_splits(self) -> list[str]:
        """Return the folders below `images` that have no instance file: their images are not used."""
        folders = listing.subfolders(self.path / "images")
        return [folder.name for folder in folders if folder.name not in self.items]

    def check_split(self, split: str) -> None:
        name = base_split(split)
        if name in self.unlisted_splits():
            shown = printable(name)
            raise DataError(
                f"{printable(self.path)} has images/{shown} and no instances_{shown}.json. Add that file: it "
                "lists the images of the split and their annotations"
            )
        super().check_split(split)

    def check_complete(self, split: str) -> None:
        items = self.items[split]
        absent = [item for item in items if not exists(item.image)]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(items)} images that instances_{printable(split)}.json lists are "
                f"missing; the first is {printable(absent[0].image)}"
            )

    def annotations(self, item: Item) -> list[Annotation]:
        """Return those of `item` with a category of the folder: a file may list others, which is refused."""
        return [entry for entry in item.annotations if entry.category_id in self.class_of]

    def read_instances(self, item: Item, image: Frame | None = None) -> Instances:
        """Return the instances of `item` as its image is shown.

        Args:
            item: one of `items`.
            image: how its image lies in the file; None: that is read.

        Raises:
            OrientationError: if an EXIF tag turns the image and nothing tells whether it turns the polygons.
            SizeError: if its image has another size than its record; before anything is painted.
        """
        if item.size is None:
            raise DataError(f"{printable(item.image)} has no size in its COCO file")
        image = image or image_files.read_frame(item.image)
        chosen = self.annotations(item)
        name, where = f"'{printable(item.image)}'", "at the top of its instances_SPLIT.json"
        orientation = truth_orientation(item.size, image, item.drawn, name, where)
        recorded = Frame(item.size, orientation).shown
        if recorded != image.shown:
            raise SizeError(name, image.shown, recorded)
        found = instance_masks.stack(
            coco_masks.masks(map(coco_records.segmentation, chosen), item.size),
            [self.class_of[entry.category_id] for entry in chosen],
            [bool(entry.iscrowd) for entry in chosen],
            name,
        )
        return found.replace(turn(found.layers, orientation, axis=1))

    def read_mask(self, item: Item) -> np.ndarray:
        return instance_masks.semantic(self.read_instances(item), self.base_spec.ignore_id)

    def read(self, item: Item) -> Sample:
        image, frame = image_files.read_framed(item.image)
        found = self.read_instances(item, frame)
        return Sample(item.name, image, instance_masks.semantic(found, self.base_spec.ignore_id), found)


def exists(path: Path) -> bool:
    """Return whether `path` is a regular file; a name that no system could store is none."""
    try:
        return path.is_file()
    except OSError:
        return False
