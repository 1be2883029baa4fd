"""Converters: data sets in other tools' formats become kseg's own folder.

One reader per format, in one table. They are ours because each is a few lines of parsing, while the
maintained multi-format readers bring a GUI toolkit, a video decoder or a second OpenCV, or read boxes only.
What is hard is left to libraries: pycocotools (RLE, polygons), Pillow, OpenCV, msgspec (JSON), defusedxml.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kseg import files
from kseg.checks import check_choice
from kseg.data.convert import splits
from kseg.data.convert.base import Format, Options, check_choice_of_unlabeled
from kseg.data.convert.coco import Coco
from kseg.data.convert.cvat import CvatXml
from kseg.data.convert.id_masks import IdMasks
from kseg.data.convert.label_maps import Ade20k, Cityscapes, CvatMasks, KsegFolder, Voc
from kseg.data.convert.labelme import Labelme
from kseg.data.convert.supervisely import Supervisely
from kseg.data.convert.write import LINKS, Conversion, free_folder, write
from kseg.errors import DataError, UsageError
from kseg.progress import Progress

__all__ = ["FORMATS", "LINKS", "Conversion", "convert"]

# Format -> its readers; the first that fits the folder reads it. A subclass is asked before its parent.
FORMATS: dict[str, tuple[type[Format], ...]] = {
    "voc": (Voc,),
    "cityscapes": (Cityscapes,),
    "labelme": (Labelme,),
    "cvat": (CvatMasks, CvatXml),
    "coco": (Coco,),
    "id-masks": (IdMasks,),
    "supervisely": (Supervisely,),
    "ade20k": (Ade20k,),
    "kseg": (KsegFolder,),
}
AUTO = "auto"


def convert(
    source: str | os.PathLike[str],
    format: str = AUTO,
    out: str | os.PathLike[str] = "",
    *,
    split: str | None = None,
    seed: int = 0,
    group_by: str | None = None,
    classes: Sequence[str] | None = None,
    unlabeled: str = "background",
    semantic: bool = False,
    link: str = "copy",
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a data set of another tool to a kseg folder: `images/SPLIT`, `labels/SPLIT`, `classes.json`.

    Label maps hold final ids, void as 255 (65535 beyond 255 classes). Images are not altered.

    Args:
        source: the folder, in the layout that docs/your-data.md shows for its format.
        format: a name in `FORMATS`, or `"auto"` to look.
        out: the new folder; must be absent or empty.
        split: shares of train/val/test such as `"80/10/10"`, or `"90/10"` without test. None: the data's own
            splits, or 80/10/10 where it has none.
        seed: of that split.
        group_by: regular expression; names whose first group (or match) is equal stay in one split. None:
            what stands before the last number of a name.
        classes: names in order of id, for formats that do not list theirs, or to fix their order.
        unlabeled: `"background"` (class 0) or `"void"`: what is not drawn on, in formats of drawn shapes.
        semantic: paint instances (COCO, masks of ids) into label maps, instead of `instances_SPLIT.json`.
        link: `"copy"`, `"hard"` (hard links) or `"symlink"`.
        skip_bad: leave out images that cannot be read or are labelled wrongly, and list them.
        progress: wraps the loop over the images.

    Raises:
        UsageError: an argument is wrong, or `out` is not free.
        DataError: naming file and field of what is wrong in the data; then nothing is written.

    Example:
        >>> done = kseg.data.convert("VOCdevkit/VOC2012", "voc", "data/voc")
        >>> done.counts["train"].images
        1464
    """
    root = files.resolved(source)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data folder {root} {what}")
    if not os.fspath(out):
        raise UsageError("Argument `out` must name the new folder. Received: nothing")
    check_choice("link", link, LINKS)
    check_choice_of_unlabeled(unlabeled)
    if seed < 0:
        raise UsageError(f"Argument `seed` must be at least 0. Received: seed={seed}")
    names = None if classes is None else tuple(name.strip() for name in classes)
    if names is not None and (not names or not all(names) or len(set(names)) != len(names)):
        raise UsageError(f"Argument `classes` must be different names, none empty. Received: {list(names)!r}")
    shares = None if split is None else splits.parse(split)
    target = free_folder(out, root)
    reader = _reader(root, format)(root, Options(names, unlabeled, semantic, skip_bad))
    reader.read()
    return write(reader, target, shares=shares, seed=seed, group_by=group_by, link=link, progress=progress)


def _reader(root: Path, name: str) -> type[Format]:
    """Return the reader for a folder: of the format asked for, or the only one that fits."""
    if name != AUTO:
        check_choice("format", name, (*FORMATS, AUTO))
        fitting = [reader for reader in FORMATS[name] if reader.fits(root)]
        return fitting[0] if fitting else FORMATS[name][-1]
    found = [(key, reader) for key, group in FORMATS.items() for reader in group if reader.fits(root)]
    special = [
        (key, reader)
        for key, reader in found
        if not any(other is not reader and issubclass(other, reader) for _, other in found)
    ]
    if not special:
        layouts = "; ".join(f"{key}: {group[-1].layout}" for key, group in FORMATS.items())
        raise DataError(f"{root} has none of the formats that are known. {layouts}")
    if len(special) > 1:
        names = " or ".join(key for key, _ in special)
        raise DataError(f"{root} may be {names}: say which by `format` (--format)")
    return special[0][1]
