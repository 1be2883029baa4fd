"""The two layouts of a data folder: images with label maps, and images with COCO instances.

Opening a folder lists files and reads the small JSON files only; no image is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kseg.data.sources import classes_file

from kseg.data.coco import records as coco_records

from kseg.data.pictures import listing
from kseg.data.pictures import images as image_files
from kseg.data.sources.coco_folder import CocoFolder
from kseg.data.sources.folder_base import Content, Folder, Item, ignore_id
from kseg.data.label_spaces import masks_palette
from kseg.data.pictures.orientation import Frame
from kseg.data.pictures.palette import Palette
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable

PaletteLike = Palette | Mapping[tuple[int, int, int], int] | Sequence[Sequence[int]] | str | os.PathLike[str]

CLASSES_FILE = classes_file.FILE
LAYOUT = (
    "images/SPLIT/ID.jpg with labels/SPLIT/ID.png and classes.json, or images/SPLIT/ID.jpg with "
    "instances_SPLIT.json (COCO)"
)
BOTH = (
    "has label maps (labels/) and COCO instances: the label maps are read; to read the instances write "
    f'"truth": "instances" into {CLASSES_FILE}'
)


def ids_message(wrong: Sequence[int], spec: Spec, where: str) -> str:
    """Return the line about ids out of range: which, where, and the two likely fixes."""
    shown = ", ".join(map(str, wrong[:8])) + (", …" if len(wrong) > 8 else "")
    return (
        f"{where}: mask ids {shown} are neither classes (0-{spec.num_classes - 1}) nor void "
        f"({spec.ignore_id}). If the ids mean other classes, give id_map={{{wrong[0]}: class or "
        f'{spec.ignore_id}}}, or write "id_map" into {CLASSES_FILE}; '
        "if the mask is coded by colour, give palette=[...]. `kseg check-data` lists every file"
    )


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


class SemanticFolder(Folder):
    """`images/SPLIT`, `labels/SPLIT` and `classes.json`.

    Keys of `classes.json`: `classes` (names in order of id); `palette` (one [r, g, b] per class);
    `void_id` and `void_color`; `"color_masks": true` when the masks show the colours of `palette`;
    `id_map`, for example `{"255": 1}`, when ids in the masks mean other classes. In place of all that stands
    `{"label_space": "msrc21"}`: see `kseg.data.label_spaces`. The arguments `palette` and `id_map` go before
    the file's. `"mask_orientation"` (`"as_shown"` or `"as_stored"`) says how masks lie on images that an EXIF
    tag turns, where sizes do not tell; `"truth": "instances"` reads the COCO files of a folder with both.
    """

    def __init__(
        self,
        path: Path,
        palette: PaletteLike | None = None,
        id_map: Mapping[int, int] | None = None,
    ) -> None:
        values = self._read_classes(path)
        spec = self._make_spec(path / CLASSES_FILE, values)
        self._void_id = values.get("void_id")
        self._drawn = values.get("mask_orientation")
        try:
            own_palette = masks_palette(values, spec.classes, spec.ignore_id)
        except DataError as error:
            raise DataError(f"{printable(path / CLASSES_FILE)}: {error}") from error
        given = classes_file.id_map(id_map, UsageError)
        self._id_map = values.get("id_map") if given is None else given
        self._palette = own_palette if palette is None else self._make_palette(palette, spec, values)
        special: list[Path] = []
        items = self._list(path, special)
        options: dict[str, Any] = {}
        if self._palette is not None:
            options["palette"] = self._palette.colors
        if self._id_map is not None:
            options["id_map"] = sorted(self._id_map.items())
        super().__init__(path, spec, items, "semantic", options, special=tuple(special))

    @staticmethod
    def _list(path: Path, special: list[Path]) -> dict[str, tuple[Item, ...]]:
        folders = listing.subfolders(path / "images")
        return {folder.name: pair(folder, path / "labels" / folder.name, special) for folder in folders}

    @staticmethod
    def _read_classes(path: Path) -> dict[str, Any]:
        file = path / CLASSES_FILE
        if not file.exists():
            other = any(path.glob(coco_records.PATTERN))
            raise DataError(
                f"{printable(path)} has labels/ but no {CLASSES_FILE}, so ids have no names. "
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

    def _described_by(self) -> list[Path]:
        return [self.path / CLASSES_FILE]

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
            drawn=self._drawn,
        )
        if self._void_id is not None and self._void_id != self.spec.ignore_id:
            fits = self.spec.ignore_id <= np.iinfo(mask.dtype).max
            void = mask == self._void_id
            mask = np.array(mask, mask.dtype if fits else np.int32)
            mask[void] = self.spec.ignore_id
        return mask

    def read(self, item: Item) -> Content:
        image, frame = image_files.read_framed(item.image)
        return Content(image, self.read_mask(item, frame))


def layout(path: str | os.PathLike[str]) -> tuple[Path, str, list[str]]:
    """Return the absolute path of a data folder, its kind (`"semantic"` or `"coco"`), and notes on that.

    Raises:
        DataError: missing, or of neither layout.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"Data folder {printable(folder)} {what}. Give a folder with {LAYOUT}; or tfds:NAME; or "
            "sample:nuclei"
        )
    has_labels, has_coco = (folder / "labels").is_dir(), any(folder.glob(coco_records.PATTERN))
    if not (folder / "images").is_dir() or not (has_coco or has_labels):
        found = sorted(entry.name for entry in folder.iterdir())[:8]
        raise DataError(
            f"{printable(folder)} is not a data folder. Expected: {LAYOUT}. "
            f"Found: {printable(', '.join(found)) if found else 'nothing'}"
        )
    if not (has_labels and has_coco):
        return folder, "coco" if has_coco else "semantic", []
    file = folder / CLASSES_FILE
    truth = classes_file.read(file).get("truth") if file.exists() else None
    if truth is None:
        return folder, "semantic", [f"{printable(folder)} {BOTH}"]
    return folder, "coco" if truth == "instances" else "semantic", []


def read_folder(
    path: str | os.PathLike[str],
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
) -> SemanticFolder | CocoFolder:
    """List a data folder of either layout.

    Args:
        path: the folder. One with label maps and COCO instances is read by its label maps, and `notes` of
            the result says so, unless its `classes.json` chooses.
        palette: colours of colour-coded masks: a `Palette`, RGB in class order, {(r, g, b): id},
            or a palette file.
        id_map: {id in the files: class id}; ids that it does not name stay as they are.

    Raises:
        DataError: missing, empty, of neither layout, or with a broken JSON file.
    """
    folder, kind, notes = layout(path)
    if kind == "coco":
        refuse_maps(folder, palette, id_map)
    result = CocoFolder(folder) if kind == "coco" else SemanticFolder(folder, palette, id_map)
    refuse_empty(result)
    result.items = {split: items for split, items in result.items.items() if items}
    result.notes += notes
    return result


def refuse_empty(folder: Folder) -> None:
    """Raise DataError if no split has an image."""
    if not any(folder.items.values()):
        raise DataError(
            f"{printable(folder.path)} has no images: every folder in {printable(folder.path / 'images')} is "
            f"empty. Expected: {LAYOUT}"
        )


def refuse_maps(folder: Path, palette: object, id_map: object) -> None:
    """Raise UsageError if a palette or an id map was given for a folder of COCO instances."""
    if palette is not None or id_map is not None:
        raise UsageError(f"`palette` and `id_map` are for label maps; {printable(folder)} has COCO instances")
