"""The layout of a data folder with COCO instances."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kseg.data import images as image_files
from kseg.data import instances as instance_masks
from kseg.data.folder_base import Content, Folder, Item, ignore_id, load_json
from kseg.data.instances import Instances
from kseg.errors import DataError, UsageError
from kseg.spec import Spec


class CocoFolder(Folder):
    """`images/SPLIT` and `instances_SPLIT.json`; class 0 is background, then categories in order of id."""

    def __init__(self, path: Path) -> None:
        self._files = sorted(path.glob("instances_*.json"))
        categories: list[tuple[int, str]] | None = None
        items = {}
        for file in self._files:
            values = load_json(file)
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
            spec = Spec(classes=classes, ignore_id=ignore_id(len(classes)))
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
