"""Formats with one PNG of truth per image: VOC, CVAT's mask export, Cityscapes, SceneParse150, kseg's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kseg.data.convert.base import (
    ClassTable,
    Format,
    Picture,
    class_table,
    label_dtype,
    name_below,
    plain_files,
    safe_name,
    split_of,
)
from kseg.data.convert.labelme import read_lines
from kseg.data.label_spaces import LabelSpace, label_space
from kseg.data.pictures import images as image_files
from kseg.data.pictures.images import ColorMaskError
from kseg.data.pictures.palette import Palette, parse_color
from kseg.data.sources.folder import Item
from kseg.data.sources.semantic_folder import SemanticFolder, pair
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable


class LabelMaps(Format):
    """What these formats share: a mask file per picture, its ids or colours, and the check of them."""

    palette: Palette | None = None
    id_map: Mapping[int, int] | None = None

    def take(self, space: LabelSpace) -> None:
        """Take classes, colours and ids of a label space."""
        self.classes, self.colors, self.id_map = space.classes, space.colors, space.file_ids

    def has_its_own_classes(self, where: object) -> None:
        """Refuse a list of classes by the user."""
        if self.options.classes is not None:
            raise UsageError(f"{where} names the classes of this format. Leave --classes (`classes`) out")

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        mask: Path | None = picture.truth
        if mask is None:
            raise DataError(f"'{picture.image}' has no label map. Add it, or remove the image")
        ids = self.decode(mask)
        wrong = [int(i) for i in np.unique(ids) if not (0 <= i < len(self.classes) or i == self.void)]
        if wrong:
            raise DataError(
                f"'{mask}' holds ids {', '.join(map(str, wrong[:8]))}, which are neither classes "
                f"(0-{len(self.classes) - 1}) nor void"
            )
        return ids.astype(label_dtype(self.void))

    def decode(self, mask: Path) -> NDArray[Any]:
        """Return the final ids of a mask file."""
        return image_files.read_mask(mask, palette=self.palette, id_map=self.id_map)

    def keep_labeled(self) -> None:
        """Leave out the splits in which no picture has a label map (test sets are published without)."""
        splits: dict[str | None, bool] = {}
        for picture in self.pictures:
            splits[picture.split] = splits.get(picture.split, False) or picture.truth is not None
        for split, has_some in splits.items():
            if not has_some:
                own = [picture for picture in self.pictures if picture.split == split]
                self.drop(f"images of {split or 'the folder'}, which has no label maps", len(own))
        self.pictures = [picture for picture in self.pictures if splits[picture.split]]


class Voc(LabelMaps):
    """PASCAL VOC: palette PNGs with void 255, or colours by `labelmap.txt`; labelme's VOC export too."""

    name = "voc"
    layout = "JPEGImages/ID.jpg, SegmentationClass/ID.png, ImageSets/Segmentation/{train,val}.txt"
    _masks = ("SegmentationClass", "SegmentationClassPNG")

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "JPEGImages").is_dir() and any((root / name).is_dir() for name in cls._masks)

    def read(self) -> None:
        self.needs(self.fits(self.root))
        folder = next(self.root / name for name in self._masks if (self.root / name).is_dir())
        self._read_classes()
        masks = {name_below(path, folder): path for path in plain_files(folder, *image_files.MASK_SUFFIXES)}
        images: dict[str, Path] = {}
        for path in plain_files(self.root / "JPEGImages", *image_files.IMAGE_SUFFIXES):
            images[name_below(path, self.root / "JPEGImages")] = path
        listed = self._listed() or dict.fromkeys(images)
        for name, split in listed.items():
            with self.skipping():
                if name not in images:
                    raise DataError(
                        f"'{self.root / 'ImageSets' / 'Segmentation'}': there is no image "
                        f"'{printable(name, 80)}' in JPEGImages"
                    )
                path = images[name]
                where = masks.get(name)
                self.pictures.append(
                    Picture(safe_name(name, str(path)), path, where, str(where), split, suffix=path.suffix)
                )
        self.drop("images in no list of ImageSets/Segmentation", len(images.keys() - listed.keys()))
        if not self._listed():
            bare = sum(picture.truth is None for picture in self.pictures)
            self.drop("images without a label map", bare)
            self.pictures = [picture for picture in self.pictures if picture.truth is not None]
        self.keep_labeled()

    def _listed(self) -> dict[str, str | None]:
        """Return image name -> split, from the lists train, val, test; else from any list, without splits."""
        lists = self.root / "ImageSets" / "Segmentation"
        files = sorted(path for path in lists.glob("*.txt") if path.is_file())
        chosen = [path for path in files if split_of(path.stem)] or files
        found: dict[str, str | None] = {}
        for file in chosen:
            for line in read_lines(file):
                name = line.strip()
                if name and found.setdefault(name, split_of(file.stem)) != split_of(file.stem):
                    raise DataError(
                        f"'{file}': '{printable(name, 80)}' also stands in the list of {found[name]}"
                    )
        return found

    def _read_classes(self) -> None:
        labelmap, names = self.root / "labelmap.txt", self.root / "class_names.txt"
        if labelmap.is_file():
            self._take_labelmap(labelmap)
        elif names.is_file() and self.options.classes is None:
            # labelme's: __ignore__ is -1, which a PNG holds as 255; then _background_ is 0.
            labels = [line.strip() for line in read_lines(names) if line.strip()]
            table = class_table(labels, self.options)
            self.classes = table.classes
        elif self.options.classes is not None:
            self.classes = self.options.classes
        else:
            self.take(label_space("voc"))

    def _take_labelmap(self, file: Path) -> None:
        colors = {}
        for number, line in enumerate(read_lines(file), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split(":")
            try:
                colors[fields[0].strip()] = parse_color([int(value) for value in fields[1].split(",")])
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"'{file}': line {number} must be like 'road:128,64,128::'. "
                    f"Received: '{printable(line, 60)}'"
                ) from error
        table: ClassTable = class_table(list(colors), self.options)
        self.classes, self.colors = table.classes, table.colors_of(colors)
        pairs = [(color, table.id_of(name, f"'{file}'")) for name, color in colors.items()]
        if (0, 0, 0) not in colors.values():
            pairs.append(((0, 0, 0), table.fill))
        self.palette = Palette(tuple(pairs), self.classes)

    def decode(self, mask: Path) -> NDArray[Any]:
        try:
            return super().decode(mask)
        except ColorMaskError:
            if self.options.classes is not None or (self.root / "class_names.txt").is_file():
                raise
            return image_files.read_mask(mask, palette=label_space("voc").palette)


class CvatMasks(Voc):
    """CVAT's export "Segmentation mask 1.1": VOC's folders with a `labelmap.txt`."""

    name = "cvat"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return super().fits(root) and (root / "labelmap.txt").is_file()


class Cityscapes(LabelMaps):
    """Cityscapes: labelIds (34 ids) or labelTrainIds to the 19 classes of its evaluation."""

    name = "cityscapes"
    layout = "leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png, gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png"
    _image_end: ClassVar[str] = "_leftImg8bit"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "leftImg8bit").is_dir() and any(
            (root / kind).is_dir() for kind in ("gtFine", "gtCoarse")
        )

    def read(self) -> None:
        self.needs(self.fits(self.root))
        self.has_its_own_classes("The evaluation of Cityscapes")
        self.take(label_space("cityscapes19"))
        kind = "gtFine" if (self.root / "gtFine").is_dir() else "gtCoarse"
        base = self.root / "leftImg8bit"
        for path in plain_files(base, *image_files.IMAGE_SUFFIXES):
            inside = path.relative_to(base)
            stem = path.stem.removesuffix(self._image_end)
            found = [
                self.root / kind / inside.parent / f"{stem}_{kind}_{end}.png"
                for end in ("labelIds", "labelTrainIds")
            ]
            mask = next((file for file in found if file.is_file()), None)
            split = inside.parts[0] if len(inside.parts) > 1 else None
            name = safe_name(
                (inside.relative_to(split) if split else inside).with_name(stem).as_posix(), str(path)
            )
            self.pictures.append(Picture(name, path, mask, str(mask), split, suffix=path.suffix))
        if self.pictures and all(picture.truth is None for picture in self.pictures):
            raise DataError(
                f"{self.root / kind} has no *_{kind}_labelIds.png. From the polygons they are made by "
                "cityscapesscripts: csCreateTrainIdLabelImgs"
            )
        self.keep_labeled()

    def decode(self, mask: Path) -> NDArray[Any]:
        train_ids = mask.stem.endswith("labelTrainIds")
        return image_files.read_mask(mask, id_map=None if train_ids else self.id_map)


class Ade20k(LabelMaps):
    """SceneParse150, the 150 classes of ADE20K's challenge; 0 (other) is void."""

    name = "ade20k"
    layout = "images/{training,validation}/ID.jpg, annotations/{training,validation}/ID.png (SceneParse150)"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return cls._is_full(root) or any(
            (root / "annotations" / name).is_dir() and (root / "images" / name).is_dir()
            for name in ("training", "validation")
        )

    @staticmethod
    def _is_full(root: Path) -> bool:
        return any(root.glob("index_ade20k*")) or (root / "images" / "ADE").is_dir()

    def read(self) -> None:
        if self._is_full(self.root):
            raise DataError(
                f"{self.root} is the full ADE20K (*_seg.png, its names kept in a pickle, which "
                "can run code and is not read). Take SceneParse150 (ADEChallengeData2016)"
            )
        self.needs(self.fits(self.root))
        self.has_its_own_classes("SceneParse150")
        self.take(label_space("ade150"))
        for folder in sorted(path for path in (self.root / "images").iterdir() if path.is_dir()):
            for item in pair(folder, self.root / "annotations" / folder.name):
                split = split_of(folder.name) or folder.name
                self.pictures.append(_of_item(item, split))
        self.keep_labeled()


class KsegFolder(LabelMaps):
    """kseg's own folder, with or without splits: to split it, or to make plain ids of colours."""

    name = "kseg"
    layout = "images/ID.jpg, labels/ID.png, classes.json (flat, or in folders of splits)"
    _folder: SemanticFolder

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "images").is_dir() and (root / "labels").is_dir() and (root / "classes.json").is_file()

    def read(self) -> None:
        self.needs(self.fits(self.root))
        self.has_its_own_classes(self.root / "classes.json")
        entries = [entry for entry in (self.root / "images").iterdir() if not entry.name.startswith(".")]
        flat = any(entry.is_file() for entry in entries)
        self._folder = (_Flat if flat else SemanticFolder)(self.root)
        spec: Spec = self._folder.base_spec
        self.classes, self.colors, self.drawn = spec.classes, spec.palette, self._folder.drawn
        for split, items in self._folder.items.items():
            self.pictures += [_of_item(item, None if flat else split) for item in items]

    def decode(self, mask: Path) -> NDArray[Any]:
        return self._folder.read_mask(Item(mask.stem, mask, mask))


class _Flat(SemanticFolder):
    """A kseg folder whose images lie in `images/` itself."""

    @staticmethod
    def _list(path: Path, special: list[Path]) -> dict[str, tuple[Item, ...]]:
        return {"all": pair(path / "images", path / "labels", special)}


def _of_item(item: Item, split: str | None) -> Picture:
    return Picture(item.name, item.image, item.label, str(item.label), split, suffix=item.image.suffix)
