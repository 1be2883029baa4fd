"""The two layouts of a data folder: images with label maps, and images with COCO instances.

Opening a folder lists files and reads the small JSON files only; no image is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kseg.data import images as image_files
from kseg.data.coco_folder import CocoFolder
from kseg.data.folder_base import Content, Folder, Item, ignore_id, load_json
from kseg.data.label_spaces import fill_in, masks_palette
from kseg.data.palette import Palette
from kseg.errors import DataError, UsageError
from kseg.spec import Spec

PaletteLike = Palette | Mapping[tuple[int, int, int], int] | Sequence[Sequence[int]] | str | os.PathLike[str]

CLASSES_FILE = "classes.json"
LAYOUT = (
    "images/SPLIT/ID.jpg with labels/SPLIT/ID.png and classes.json, or images/SPLIT/ID.jpg with "
    "instances_SPLIT.json (COCO)"
)
EXAMPLE = '{"classes": ["road", "car"], "palette": [[128, 64, 128], [64, 0, 128]], "void_id": 255}'


def ids_message(wrong: Sequence[int], spec: Spec, where: str) -> str:
    """Return the line about ids out of range: which, where, and the two likely fixes."""
    shown = ", ".join(map(str, wrong[:8])) + (", …" if len(wrong) > 8 else "")
    return (
        f"{where}: mask ids {shown} are neither classes (0-{spec.num_classes - 1}) nor void "
        f"({spec.ignore_id}). If the ids mean other classes, give id_map={{{wrong[0]}: class or "
        f'{spec.ignore_id}}}, or write "id_map" into {CLASSES_FILE}; '
        "if the mask is coded by colour, give palette=[...]. `kseg check-data` lists every file"
    )


def _images_by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in image_files.IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"Two files in {folder} share one name: {found[name].name} and {path.name}. "
                "Names without suffix pair an image with its label: rename or remove one"
            )
        found[name] = path
    return found


def pair(images: Path, labels: Path) -> tuple[Item, ...]:
    """Return the images below a folder in name order, each with the label map of its name, if any."""
    maps = _images_by_name(labels)
    return tuple(Item(name, image, maps.get(name)) for name, image in _images_by_name(images).items())


def _id_map(values: Any) -> dict[int, int] | None:
    """Read `id_map` of a `classes.json`; JSON keys are text."""
    if values is None:
        return None
    try:
        return {int(old): int(new) for old, new in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f'`id_map` must be like {{"255": 1}}. Received: {values!r}') from error


class SemanticFolder(Folder):
    """`images/SPLIT`, `labels/SPLIT` and `classes.json`.

    Keys of `classes.json`: `classes` (names in order of id); `palette` (one [r, g, b] per class);
    `void_id` and `void_color`; `"color_masks": true` when the masks show the colours of `palette`;
    `id_map`, for example `{"255": 1}`, when ids in the masks mean other classes. In place of all that stands
    `{"label_space": "msrc21"}`: see `kseg.data.label_spaces`. The arguments `palette` and `id_map` go before
    the file's.
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
        try:
            own_palette = masks_palette(values, spec.classes, spec.ignore_id)
            own_map = _id_map(values.get("id_map"))
        except DataError as error:
            raise DataError(f"{path / CLASSES_FILE}: {error}") from error
        self._id_map = dict(id_map) if id_map is not None else own_map
        self._palette = own_palette if palette is None else self._make_palette(palette, spec, values)
        items = self._list(path)
        options: dict[str, Any] = {}
        if self._palette is not None:
            options["palette"] = self._palette.colors
        if self._id_map is not None:
            options["id_map"] = sorted(self._id_map.items())
        super().__init__(path, spec, items, "semantic", options)

    @staticmethod
    def _list(path: Path) -> dict[str, tuple[Item, ...]]:
        folders = sorted(entry for entry in (path / "images").iterdir() if entry.is_dir())
        return {folder.name: pair(folder, path / "labels" / folder.name) for folder in folders}

    @staticmethod
    def _read_classes(path: Path) -> dict[str, Any]:
        file = path / CLASSES_FILE
        if not file.is_file():
            raise DataError(
                f"{path} has labels/ but no {CLASSES_FILE}, so ids have no names. "
                f"Write one, in order of id, for example: {EXAMPLE}"
            )
        values = load_json(file)
        try:
            values = fill_in(values)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        names = values.get("classes")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{file}: `classes` must be a list of names. Received: {names!r}. Example: {EXAMPLE}"
            )
        void = values.get("void_id")
        if void is not None and (not isinstance(void, int) or void < 0):
            raise DataError(f"{file}: `void_id` must be an id or absent. Received: {void!r}")
        return values

    @staticmethod
    def _make_spec(file: Path, values: dict[str, Any]) -> Spec:
        names, palette, void = values["classes"], values.get("palette") or (), values.get("void_id")
        if void is not None and void < len(names):
            if void != len(names) - 1:
                raise DataError(
                    f"{file}: `void_id` {void} is class '{names[void]}'. Void is not a class: list the "
                    "classes without it and renumber the others with id_map={old: new}"
                )
            names, palette = names[:-1], palette[: len(names) - 1]
        if len(palette) == len(names) + 1 and void == len(names):
            palette = palette[:-1]
        try:
            return Spec(classes=tuple(names), palette=tuple(palette), ignore_id=ignore_id(len(names)))
        except (UsageError, TypeError, ValueError) as error:
            raise DataError(f"{file}: {error}") from error

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
                f"{len(bare)} of {len(items)} images in {self.path / 'images' / split} have no label in "
                f"{self.path / 'labels' / split}; the first is {bare[0].image.name}, which needs "
                f"{bare[0].name}.png. Add the labels or remove the images"
            )

    def read_mask(self, item: Item) -> np.ndarray:
        """Return the mask (H, W), void mapped to `spec.ignore_id`; ids out of range are kept."""
        if item.label is None:
            raise DataError(f"{item.image} has no label file")
        mask = image_files.read_mask(item.label, palette=self._palette, id_map=self._id_map)
        if self._void_id is not None and self._void_id != self.spec.ignore_id:
            fits = self.spec.ignore_id <= np.iinfo(mask.dtype).max
            void = mask == self._void_id
            mask = np.array(mask, mask.dtype if fits else np.int32)
            mask[void] = self.spec.ignore_id
        return mask

    def read(self, item: Item) -> Content:
        return Content(image_files.read_image(item.image), self.read_mask(item))


def read_folder(
    path: str | os.PathLike[str],
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
) -> SemanticFolder | CocoFolder:
    """List a data folder of either layout.

    Args:
        path: the folder.
        palette: colours of colour-coded masks: a `Palette`, RGB in class order, {(r, g, b): id},
            or a palette file.
        id_map: {id in the files: class id}; ids that it does not name stay as they are.

    Raises:
        DataError: missing, empty, of neither layout, or with a broken JSON file.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"Data folder {folder} {what}. Give a folder with {LAYOUT}; or tfds:NAME; or sample:nuclei"
        )
    is_coco = any(folder.glob("instances_*.json"))
    if not (folder / "images").is_dir() or not (is_coco or (folder / "labels").is_dir()):
        found = sorted(entry.name for entry in folder.iterdir())[:8]
        raise DataError(
            f"{folder} is not a data folder. Expected: {LAYOUT}. "
            f"Found: {', '.join(found) if found else 'nothing'}"
        )
    if is_coco and (palette is not None or id_map is not None):
        raise UsageError(f"`palette` and `id_map` are for label maps; {folder} has COCO instances")
    result = CocoFolder(folder) if is_coco else SemanticFolder(folder, palette, id_map)
    if not any(result.items.values()):
        raise DataError(
            f"{folder} has no images: every folder in {folder / 'images'} is empty. Expected: {LAYOUT}"
        )
    result.items = {split: items for split, items in result.items.items() if items}
    return result
