"""The layout of a data folder with label maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kseg.data.coco import records as coco_records
from kseg.data.ids import ignore_id
from kseg.data.label_spaces import masks_palette
from kseg.data.pictures import images as image_files
from kseg.data.pictures import listing
from kseg.data.pictures.orientation import Frame
from kseg.data.pictures.palette import Palette, PaletteLike
from kseg.data.sample import Sample
from kseg.data.sources import classes_file
from kseg.data.sources.folder import FolderSource, Item
from kseg.data.sources.source import NO_OPTIONS, Options
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"Two files in {printable(folder)} share one name: {printable(found[name].name)} and "
                f"{printable(path.name)}. Names without suffix pair an image with its label: rename or "
                "remove one"
            )
        found[name] = path
    return found


def pair(images: Path, labels: Path, special: list[Path] | None = None) -> tuple[Item, ...]:
    """Return the images below a folder in name order, each with the label map of its name, if any.

    Args:
        images, labels: the two folders.
        special: gets what is no regular file in them.
    """
    pictures, masks = listing.images(images), listing.images(labels)
    if special is not None:
        special += [*pictures.special, *masks.special]
    maps = _by_name(labels, masks.files)
    return tuple(
        Item(name, image, maps.get(name)) for name, image in _by_name(images, pictures.files).items()
    )


class SemanticFolder(FolderSource):
    """`images/SPLIT`, `labels/SPLIT` and `classes.json`.

    Keys of `classes.json`: `classes` (names in order of id); `palette` (one [r, g, b] per class);
    `void_id` and `void_color`; `"color_masks": true` when the masks show the colours of `palette`;
    `id_map`, for example `{"255": 1}`, when ids in the masks mean other classes. In place of all that stands
    `{"label_space": "msrc21"}`: see `kseg.data.label_spaces`. The options `palette` and `id_map` go before
    the file's. `"mask_orientation"` (`"as_shown"` or `"as_stored"`) says how masks lie on images that an EXIF
    tag turns, where sizes do not tell; `"truth": "instances"` reads the COCO files of a folder with both.

    Attributes:
        palette: the one that the options gave; None: the file's, if any.
        drawn: how masks lie on images that an EXIF tag turns; None: sizes decide.
    """

    kind = "semantic"
    checked_by = "kseg.data.checking.semantic:check_semantic"

    def __init__(self, place: str | Path, options: Options = NO_OPTIONS) -> None:
        path = self._place(place, options)
        file = path / classes_file.FILE
        values = self._read_classes(path)
        self.base_spec = self._make_spec(file, values)
        self.described_by = [file]
        self._void_id = values.get("void_id")
        self.drawn = values.get("mask_orientation")
        try:
            own_palette = masks_palette(values, self.base_spec.classes, self.base_spec.ignore_id)
        except DataError as error:
            raise DataError(f"{printable(file)}: {error}") from error
        given = classes_file.id_map(options.id_map, UsageError)
        self._id_map = values.get("id_map") if given is None else given
        self.palette = (
            None if options.palette is None else self._make_palette(options.palette, self.base_spec, values)
        )
        self._palette = self.palette or own_palette
        special: list[Path] = []
        self.items = self._list(path, special)
        self.special = special
        self.content = {}
        if self._palette is not None:
            self.content["palette"] = self._palette.colors
        if self._id_map is not None:
            self.content["id_map"] = sorted(self._id_map.items())

    @staticmethod
    def _list(path: Path, special: list[Path]) -> dict[str, tuple[Item, ...]]:
        folders = listing.subfolders(path / "images")
        return {folder.name: pair(folder, path / "labels" / folder.name, special) for folder in folders}

    @staticmethod
    def _read_classes(path: Path) -> dict[str, Any]:
        file = path / classes_file.FILE
        if not file.exists():
            other = any(path.glob(coco_records.PATTERN))
            raise DataError(
                f"{printable(path)} has labels/ but no {classes_file.FILE}, so ids have no names. "
                f"Write one, in order of id, for example: {classes_file.EXAMPLE}"
                + ('; or {"truth": "instances"} to read the COCO instances beside them' if other else "")
            )
        values = classes_file.read(file)
        if "classes" not in values:
            raise DataError(
                f"'{printable(file)}': missing required field `classes`. Example: {classes_file.EXAMPLE}"
            )
        return values

    @staticmethod
    def _make_spec(file: Path, values: dict[str, Any]) -> Spec:
        names, palette, void = values["classes"], values.get("palette", ()), values.get("void_id")
        if void is not None and void < len(names):
            if void != len(names) - 1:
                raise DataError(
                    f"{printable(file)}: `void_id` {void} is class '{printable(names[void], 80)}'. Void is "
                    "not a class: list the classes without it and renumber the others with id_map={old: new}"
                )
            names, palette = names[:-1], palette[: len(names) - 1]
        if len(palette) == len(names) + 1 and void == len(names):
            palette = palette[:-1]
        try:
            return Spec(classes=tuple(names), palette=tuple(palette), ignore_id=ignore_id(len(names)))
        except UsageError as error:
            raise DataError(f"{printable(file)}: {printable(error, 400)}") from error

    @staticmethod
    def _make_palette(palette: PaletteLike, spec: Spec, values: dict[str, Any]) -> Palette:
        if isinstance(palette, Palette):
            return palette
        if isinstance(palette, str | os.PathLike):
            return Palette.from_file(palette, classes=spec.classes, void_id=spec.ignore_id)
        if isinstance(palette, Mapping):
            return Palette(tuple(palette.items()), spec.classes)
        void = values.get("void_color")
        return Palette.from_classes(spec.classes, palette, void_color=void, void_id=spec.ignore_id)

    def check_complete(self, split: str) -> None:
        items = self.items[split]
        bare = [item for item in items if item.label is None]
        if bare:
            raise DataError(
                f"{len(bare)} of {len(items)} images in {printable(self.path / 'images' / split)} have no "
                f"label in {printable(self.path / 'labels' / split)}; the first is "
                f"{printable(bare[0].image.name)}, which needs {printable(bare[0].name)}.png. Add the labels "
                "or remove the images"
            )

    def read_mask(self, item: Item, image: Frame | None = None) -> np.ndarray:
        """Return the mask (H, W) as the image is shown, void mapped to `spec.ignore_id`.

        Ids out of range are kept.

        Args:
            item: one of `items`.
            image: how its image lies in the file; None: that is read.
        """
        if item.label is None:
            raise DataError(f"{printable(item.image)} has no label file")
        mask = image_files.read_mask(
            item.label,
            palette=self._palette,
            id_map=self._id_map,
            image=image or image_files.read_frame(item.image),
            drawn=self.drawn,
        )
        if self._void_id is not None and self._void_id != self.base_spec.ignore_id:
            fits = self.base_spec.ignore_id <= np.iinfo(mask.dtype).max
            void = mask == self._void_id
            mask = np.array(mask, mask.dtype if fits else np.int32)
            mask[void] = self.base_spec.ignore_id
        return mask

    def read(self, item: Item) -> Sample:
        image, frame = image_files.read_framed(item.image)
        return Sample(item.name, image, self.read_mask(item, frame))
