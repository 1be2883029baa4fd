"""Small data folders of both layouts, for the tests of every room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (10, 14)


def make_folder(
    root: Path, count: int = 4, ids: tuple[int, ...] = (0, 1, 2, 7), suffix: str = ".png"
) -> Path:
    """Write a semantic folder: 3 classes, void 7, `count` train images and 2 val images."""
    rng = np.random.default_rng(0)
    for split, images in (("train", count), ("val", 2)):
        for index in range(images):
            image, label = (
                root / "images" / split / f"{index:03d}{suffix}",
                root / "labels" / split / f"{index:03d}.png",
            )
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), rng.integers(0, 256, (*SIZE, 3), np.uint8))
            cv2.imwrite(str(label), rng.choice(np.array(ids, np.uint8), SIZE))
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "void_id": 7}))
    return root


def make_coco(root: Path, annotations: list[dict[str, Any]]) -> Path:
    """Write a COCO folder with one train image and categories 3 (cat) and 9 (dog)."""
    (root / "images" / "train").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "train" / "x.png"), np.zeros((*SIZE, 3), np.uint8))
    records = [{"id": index, "image_id": 5, "iscrowd": 0, **entry} for index, entry in enumerate(annotations)]
    values = {
        "images": [{"id": 5, "file_name": "x.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": records,
    }
    (root / "instances_train.json").write_text(json.dumps(values))
    return root


def box(x: int, y: int, width: int, height: int) -> list[list[int]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
