"""Masks of ids: one image file per picture in which each object has a number of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg.data.coco import records as coco_records
from kseg.data.convert.base import Format, Picture, label_dtype, name_below, plain_files, safe_name, split_of
from kseg.data.instances import BACKGROUND
from kseg.data.pictures import images as image_files
from kseg.data.pictures.orientation import Drawn
from kseg.data.run_lengths import Masks
from kseg.errors import DataError

# Of several classes an id is 1000 x class + number, as in Cityscapes' `instanceIds`.
PER_CLASS = 1000
_CELLPOSE = "_masks"


class IdMasks(Format):
    """Images and masks of the same names in two folders, or side by side with `_masks` behind the name."""

    name = "id-masks"
    holds_instances = True
    layout = (
        "images/ beside instances/ or masks/, in both the same names; or NAME_masks.png beside NAME.png. "
        "In a mask each object has its own id, 0 is nothing"
    )

    @classmethod
    def fits(cls, root: Path) -> bool:
        # `masks/` often holds classes: that is read when this format is asked for.
        if (root / "images").is_dir():
            return (root / "instances").is_dir()
        return any(path.stem.endswith(_CELLPOSE) for path in plain_files(root, *image_files.MASK_SUFFIXES))

    def read(self) -> None:
        self.classes = (BACKGROUND, *(self.options.classes or ("object",)))
        if BACKGROUND in self.classes[1:]:
            raise DataError("Id 0 is background: leave it out of --classes (`classes`)")
        masks = self._masks()
        self.needs(bool(masks), "Found no mask")
        taken = set(masks.values())
        folder = self.root / "images" if (self.root / "images").is_dir() else self.root
        images = {
            name_below(path, folder): path
            for path in plain_files(folder, *image_files.IMAGE_SUFFIXES)
            if path not in taken
        }
        lonely = sorted(masks.keys() - images.keys())
        with self.skipping():
            if lonely:
                raise DataError(f"'{masks[lonely[0]]}' has no image '{lonely[0]}' below {folder}")
        for name in sorted(images.keys() & masks.keys()):
            path, mask = images[name], masks[name]
            first, _, rest = name.partition("/")
            split = split_of(first) if rest else None
            own = safe_name(rest if split else name, str(path))
            self.pictures.append(Picture(own, path, mask, str(mask), split, suffix=path.suffix))
        self.drop("images without a mask", len(images.keys() - masks.keys()))

    def _masks(self) -> dict[str, Path]:
        """Return the mask of each picture by its name."""
        folders = [self.root / name for name in ("instances", "masks") if (self.root / name).is_dir()]
        if (self.root / "images").is_dir() and folders:
            return {
                name_below(path, folders[0]).removesuffix(_CELLPOSE): path
                for path in plain_files(folders[0], *image_files.MASK_SUFFIXES)
            }
        beside = plain_files(self.root, *image_files.MASK_SUFFIXES)
        return {
            name_below(path, self.root).removesuffix(_CELLPOSE): path
            for path in beside
            if path.stem.endswith(_CELLPOSE)
        }

    def _ids(self, mask: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Return which object each pixel belongs to, from 1 on, the objects' ids, and their classes."""
        ids, places = np.unique(image_files.read_mask(mask), return_inverse=True)
        found = ids[ids > 0]
        count = len(self.classes) - 1
        classes = np.ones(len(found), np.int64) if count == 1 else found.astype(np.int64) // PER_CLASS
        wrong = found[(classes < 1) | (classes > count)]
        if len(wrong):
            raise DataError(
                f"'{mask}' holds the id {wrong[0]}; with {count} classes an id is {PER_CLASS} x class + "
                f"number, the class from 1 to {count}. Name one class (--classes) if ids are mere numbers"
            )
        objects = places.reshape(places.shape) + (1 if ids[0] > 0 else 0)
        return objects.astype(np.int32), found, classes

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        objects, _, classes = self._ids(picture.truth)
        return np.concatenate([[0], classes])[objects].astype(label_dtype(self.void))

    def instances_json(self, pictures: list[tuple[Picture, str]], drawn: Drawn | None) -> bytes:
        entries = [(file_name, *self._record(picture)) for picture, file_name in pictures]
        categories = dict(enumerate(self.classes[1:], start=1))
        return coco_records.written(entries, categories, drawn)

    def _record(self, picture: Picture) -> tuple[coco_records.Image, list[coco_records.Annotation]]:
        """Return a picture's records; they are numbered when they are written."""
        objects, ids, classes = self._ids(picture.truth)
        height, width = objects.shape
        masks = Masks.from_layers(objects[None], len(ids))
        boxes, areas = masks.boxes(), masks.areas()
        annotations = []
        for index, kind in enumerate(classes):
            top, left, bottom, right = (int(side) for side in boxes[index])
            shape = {"size": [height, width], "counts": masks.runs[index].tolist()}
            annotations.append(
                coco_records.Annotation(
                    image_id=1,
                    category_id=int(kind),
                    segmentation=msgspec.Raw(msgspec.json.encode(shape)),
                    bbox=msgspec.Raw(msgspec.json.encode([left, top, right - left, bottom - top])),
                    area=msgspec.Raw(msgspec.json.encode(int(areas[index]))),
                )
            )
        return coco_records.Image(id=1, file_name=picture.name, width=width, height=height), annotations
