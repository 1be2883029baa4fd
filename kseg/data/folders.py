"""The two layouts of a data folder: images with label maps, and images with COCO instances.

Opening a folder lists files and reads the small JSON files only; no image is decoded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kseg.data import images as image_files
from kseg.data import instances as instance_masks
from kseg.data.instances import Instances
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


@dataclass(frozen=True)
class Item:
    """One image on disk.

    Args:
        name: path below `images/SPLIT` without suffix.
        image: the image file.
        label: the label file of a semantic folder; None where there is none.
        annotations: COCO records of an instance folder.
        size: (H, W) that the COCO file states; None in a semantic folder.
    """

    name: str
    image: Path
    label: Path | None = None
    annotations: tuple[Mapping[str, Any], ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Content:
    """What one item holds once read: image uint8 (H, W, 3) RGB, mask (H, W) of final class ids."""

    image: np.ndarray
    mask: np.ndarray
    instances: Instances | None = None


def _load_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"Cannot read {path} as JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold a JSON object. Received: a {type(values).__name__}")
    return values


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


def _id_map(values: Any) -> dict[int, int] | None:
    """Read `id_map` of a `classes.json`; JSON keys are text."""
    if values is None:
        return None
    try:
        return {int(old): int(new) for old, new in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f'`id_map` must be like {{"255": 1}}. Received: {values!r}') from error


def _ignore_id(num_classes: int) -> int:
    return 255 if num_classes <= 255 else 65535


@dataclass
class Folder:
    """A data folder of either layout.

    Attributes:
        path: the folder.
        spec: classes, palette, ignore id (255; 65535 beyond 255 classes). Void is mapped to it.
        items: split -> its images in name order.
        kind: `"semantic"` or `"coco"`.
        options: what changes the content besides the files (palette, id map).
    """

    path: Path
    spec: Spec
    items: dict[str, tuple[Item, ...]]
    kind: str
    options: dict[str, Any] = field(default_factory=dict)

    def read(self, item: Item) -> Content:
        """Read one item; ids in the mask are final (void is `spec.ignore_id`)."""
        raise NotImplementedError

    def check_complete(self, split: str) -> None:
        """Raise DataError if an image of `split` has no label or is missing."""
        raise NotImplementedError

    def _described_by(self) -> list[Path]:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a digest of names, sizes, JSON content and options: the same after a copy or a clone."""
        return self._digest(exact=False)

    def state(self) -> str:
        """Return a digest that also changes with any file's time or place: the key of the cache."""
        return self._digest(exact=True)

    def _digest(self, exact: bool) -> str:
        digest = hashlib.sha256()
        for path in self._described_by():
            digest.update(path.read_bytes())
        digest.update(repr(sorted(self.options.items())).encode())
        if exact:
            digest.update(str(self.path).encode())
        for split, items in self.items.items():
            for item in items:
                for file in (item.image, item.label):
                    if file is None or not file.exists():
                        continue
                    stat = file.stat()
                    entry = (split, item.name, file.suffix, stat.st_size, stat.st_mtime_ns if exact else 0)
                    digest.update(repr(entry).encode())
        return digest.hexdigest()[:16]


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
        items = {}
        for folder in sorted(entry for entry in (path / "images").iterdir() if entry.is_dir()):
            labels = _images_by_name(path / "labels" / folder.name)
            items[folder.name] = tuple(
                Item(name, image, labels.get(name)) for name, image in _images_by_name(folder).items()
            )
        options: dict[str, Any] = {}
        if self._palette is not None:
            options["palette"] = self._palette.colors
        if self._id_map is not None:
            options["id_map"] = sorted(self._id_map.items())
        super().__init__(path, spec, items, "semantic", options)

    @staticmethod
    def _read_classes(path: Path) -> dict[str, Any]:
        file = path / CLASSES_FILE
        if not file.is_file():
            raise DataError(
                f"{path} has labels/ but no {CLASSES_FILE}, so ids have no names. "
                f"Write one, in order of id, for example: {EXAMPLE}"
            )
        values = _load_json(file)
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
            return Spec(classes=tuple(names), palette=tuple(palette), ignore_id=_ignore_id(len(names)))
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


class CocoFolder(Folder):
    """`images/SPLIT` and `instances_SPLIT.json`; class 0 is background, then categories in order of id."""

    def __init__(self, path: Path) -> None:
        self._files = sorted(path.glob("instances_*.json"))
        categories: list[tuple[int, str]] | None = None
        items = {}
        for file in self._files:
            values = _load_json(file)
            missing = [key for key in ("images", "annotations", "categories") if key not in values]
            if missing:
                raise DataError(f"{file} is not a COCO instance file: it lacks {', '.join(missing)}")
            try:
                own = sorted((int(entry["id"]), str(entry["name"])) for entry in values["categories"])
                split = file.stem.removeprefix("instances_")
                items[split] = self._list(path / "images" / split, values, dict(own), file)
            except (KeyError, TypeError) as error:
                raise DataError(f"{file}: a record lacks {error}") from error
            if categories is not None and own != categories:
                raise DataError(f"{file} and {self._files[0]} list different categories. They must be equal")
            categories = own
        names = [name for _, name in categories or []]
        self.class_of = {identity: index + 1 for index, (identity, _) in enumerate(categories or [])}
        try:
            classes = (instance_masks.BACKGROUND, *names)
            spec = Spec(classes=classes, ignore_id=_ignore_id(len(classes)))
        except UsageError as error:
            raise DataError(f"{self._files[0]}: {error}") from error
        super().__init__(path, spec, items, "coco")

    @staticmethod
    def _list(folder: Path, values: dict[str, Any], known: dict[int, str], file: Path) -> tuple[Item, ...]:
        by_image: dict[Any, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in values["images"]}
        for record in values["annotations"]:
            if record["image_id"] not in by_image or record["category_id"] not in known:
                raise DataError(
                    f"{file}: annotation {record.get('id')} names image {record['image_id']} and category "
                    f"{record['category_id']}, and the file does not list both"
                )
            by_image[record["image_id"]].append(record)
        return tuple(
            Item(
                name=os.path.splitext(entry["file_name"])[0],
                image=folder / entry["file_name"],
                annotations=tuple(by_image[entry["id"]]),
                size=(int(entry["height"]), int(entry["width"])),
            )
            for entry in sorted(values["images"], key=lambda entry: entry["file_name"])
        )

    def _described_by(self) -> list[Path]:
        return self._files

    def check_complete(self, split: str) -> None:
        items = self.items[split]
        absent = [item for item in items if not item.image.is_file()]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(items)} images that instances_{split}.json lists are missing; "
                f"the first is {absent[0].image}"
            )

    def read_instances(self, item: Item) -> Instances:
        """Return the instances of `item` at the size that the COCO file states."""
        if item.size is None:
            raise DataError(f"{item.image} has no size in its COCO file")
        try:
            return instance_masks.from_coco(item.annotations, self.class_of, item.size)
        except DataError as error:
            raise DataError(f"{item.image}: {error}") from error

    def read(self, item: Item) -> Content:
        image, found = image_files.read_image(item.image), self.read_instances(item)
        if image.shape[:2] != item.size:
            raise DataError(
                f"{item.image} is {image.shape[0]}x{image.shape[1]}, its COCO file says "
                f"{found.layers.shape[1]}x{found.layers.shape[2]} (height x width)"
            )
        return Content(image, instance_masks.semantic(found, self.spec.ignore_id), found)


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
