"""Proposals, candidates and features made by hand; a folder of squares and discs in COCO's form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from kseg.data.proposals import Proposals
from kseg.data.proposals.found import member_boxes
from kseg.data.run_lengths import Masks
from kseg.instance.sds.candidates import Overlaps

SIDE = 48


def tiles(members: np.ndarray, side: int = 4, size: int = 8) -> Proposals:
    """Proposals over superpixels that are squares of `size`, `side` in a row; members `(N, side * side)`."""
    grid = np.arange(side * side).reshape(side, side)
    superpixels = np.kron(grid, np.ones((size, size), int)).astype(np.int32)
    boxes, _ = member_boxes(superpixels, members)
    scores = np.linspace(1, 0.5, len(members)).astype(np.float32)
    return Proposals(boxes=boxes, scores=scores, superpixels=superpixels, members=members)


def overlaps(shares: list[list[float]], classes: list[int], crowded: list[int] | None = None) -> Overlaps:
    """What is known of an image whose objects, in the first rows, overlap nothing but themselves."""
    own = np.concatenate([np.eye(len(classes)), np.array(shares).reshape(len(shares), -1)])
    within = np.zeros(len(own), bool)
    within[crowded or []] = True
    return Overlaps(np.array(classes, np.int32), own.astype(np.float32), own.astype(np.float32), within)


def folder(root: Path, images: int = 6) -> Path:
    """Write bright squares (class 1) and green discs (class 2) on a dark ground; two splits."""
    y, x = np.mgrid[:SIDE, :SIDE]
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        listed: dict[str, list] = {
            "images": [], "annotations": [],
            "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
        }  # fmt: skip
        for index in range(images):
            picture = random.integers(0, 30, (SIDE, SIDE, 3)).astype(np.uint8)
            top, left = random.integers(3, 12, 2)
            row, column = random.integers(32, 38, 2)
            square = (abs(y - top - 6) <= 6) & (abs(x - left - 6) <= 6)
            disc = (y - row) ** 2 + (x - column) ** 2 <= 64
            picture[square], picture[disc] = (220, 220, 200), (30, 200, 60)
            name = f"{index}.png"
            Image.fromarray(picture).save(root / "images" / split / name)
            listed["images"].append({"id": index, "file_name": name, "width": SIDE, "height": SIDE})
            for kind, mask in ((1, square), (2, disc)):
                runs = Masks.from_masks([mask], (SIDE, SIDE)).runs[0].tolist()
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                listed["annotations"].append(
                    {
                        "id": len(listed["annotations"]), "image_id": index, "category_id": kind,
                        "iscrowd": 0, "bbox": [int(value) for value in box], "area": int(mask.sum()),
                        "segmentation": {"size": [SIDE, SIDE], "counts": runs},
                    }
                )  # fmt: skip
        (root / f"instances_{split}.json").write_text(json.dumps(listed))
    return root
