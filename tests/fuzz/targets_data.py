"""What is attacked of `kseg.data`: folders with mutated JSON, read by the check and as training does."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import Kind, Place, rng_of
from mutators_json import mutate
from PIL import Image

from kseg.data import check
from kseg.data import open as open_source
from kseg.data.pictures.palette import Palette
from kseg.errors import KsegError

SIZE = (16, 20)
CLASSES: dict[str, Any] = {
    "classes": ["road", "car", "tree"],
    "palette": [[128, 64, 128], [64, 0, 128], "#0a141e"],
    "void_id": 9,
    "void_color": [0, 0, 0],
    "color_masks": False,
    "id_map": {"4": 1, "5": 255},
    "mask_orientation": "as_shown",
}
SPACE: dict[str, Any] = {"label_space": "camvid11", "color_masks": False}
COLORS: list[dict[str, Any]] = [{"name": "road", "color": [1, 2, 3]}, {"name": "car", "color": "#040506"}]
COCO: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(2)],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    "annotations": [
        {"id": number, "image_id": number % 2, "category_id": 3, "segmentation": segmentation, **more}
        for number, (segmentation, more) in enumerate(
            [
                ([[1, 1, 9, 1, 9, 9, 1, 9]], {"iscrowd": 0}),
                ([[-5.5, 2, 30, 2, 30, 9]], {"bbox": [1, 2, 3, 4], "category_id": 7}),
                ({"size": list(SIZE), "counts": [100, 20, 200]}, {"iscrowd": 1}),
                ({"size": list(SIZE), "counts": "T3d0X6"}, {}),
            ]
        )
    ],
    "mask_orientation": "as_shown",
}


def semantic(root: Path) -> Path:
    """Write a folder of two images with label maps."""
    for part in ("images", "labels"):
        folder = root / part / "train"
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 3).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def coco(root: Path) -> Path:
    """Write a folder of two images for instances."""
    folder = root / "images/train"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(folder / f"{number}.png")
    return root


# A folder without the pixels to learn from is unfit for reasons that reading does not know.
_OF_PIXELS = {"one_class", "few_classes", "all_void", "no_train_split"}


def _refused(act: Callable[[], Any]) -> bool:
    """Return whether `act` ended with an error for the user; that error must be one printable line."""
    try:
        act()
    except KsegError as error:
        line = " ".join(str(error).split("\n"))
        if not line.isprintable() or len(line) > 5000:
            raise AssertionError(f"not one short line: {line[:300]!r}") from error
        return True
    return False


def _read(root: Path) -> None:
    folder = open_source(root)
    for items in folder.items.values():
        for item in items:
            content = folder.read(item)
            wrong = np.setdiff1d(content.mask, [*range(folder.spec.num_classes), folder.spec.ignore_id])
            # As the cache does while it is filled.
            if len(wrong) or content.mask.shape != content.image.shape[:2]:
                raise KsegError(f"ids {wrong[:5]} or size {content.mask.shape}")


def attack_folder(root: Path, name: str, text: bytes) -> bool:
    """Put `text` where the JSON file `name` stands; return whether it was refused by both readers.

    Raises:
        AssertionError: if the check calls fit what cannot be read, or the reverse.
    """
    (root / name).write_bytes(text)
    reports = []
    unfit = _refused(lambda: reports.append(check(root)))
    codes = {finding.code for report in reports for finding in report.findings if finding.severity == "error"}
    for report in reports:
        json.dumps(report.to_dict(), allow_nan=False)
    refused = _refused(lambda: _read(root))
    if refused != (unfit or bool(codes - _OF_PIXELS)) and not (refused and codes):
        raise AssertionError(f"check: {sorted(codes) or unfit}, read: {refused}: {text[:2000]!r}")
    return refused


def attack_palette(root: Path, text: bytes) -> bool:
    """Read `text` as a palette file; return whether it was refused."""
    (root / "palette.json").write_bytes(text)
    return _refused(lambda: Palette.from_file(root / "palette.json"))


_DOCUMENTS: dict[str, Any] = {"classes": CLASSES, "space": SPACE, "coco": COCO}
_PALETTES: tuple[Any, ...] = (CLASSES, COLORS, {"road": [1, 2, 3], "car": "#040506"})


def make(kind: str, seeds: dict[str, bytes], number: int) -> bytes:
    """Return the `number`-th spoiled text of a kind."""
    rng = rng_of(kind, number)
    return mutate(rng.choice(_PALETTES) if kind == "palette" else _DOCUMENTS[kind], rng)


def read(kind: str, bad: bytes, place: Place) -> str:
    """Read a spoiled text; return "read" or "refused"."""
    if kind == "palette":
        refused = attack_palette(place.folder, bad)
    else:
        root = place.once("root", lambda: (coco if kind == "coco" else semantic)(place.folder / "data"))
        refused = attack_folder(root, "instances_train.json" if kind == "coco" else "classes.json", bad)
    return "refused" if refused else "read"


KINDS = tuple(
    Kind(name, functools.partial(make, kind), functools.partial(read, kind), "input.json")
    for kind, name in {
        "classes": "classes.json",
        "space": "classes.json, label space",
        "coco": "COCO JSON",
        "palette": "palette",
    }.items()
)
