"""The objects of one image as files: ids, outlines over the image, COCO's JSON, a map of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kseg import files
from kseg.data.detections import Detections
from kseg.data.instances import Instances
from kseg.errors import DataError
from kseg.instance.drawing import color_of, layer, over
from kseg.instance.pasting import paste_of, pasted_classes
from kseg.spec import Spec
from kseg.viz.images import indexed

# Kind of file -> how its name ends.
KINDS = {"ids": "_ids.png", "objects": "_objects.jpg", "coco": "_coco.json", "mask": "_mask.png"}
WRITTEN = ("ids", "objects", "coco")
# Detections of a lower score are in the JSON only.
CONFIDENT = 0.5
HELP = (
    "ids (16-bit PNG: the number of the object, 0 for none), objects (outlines over the image), both of "
    f"scores from {CONFIDENT} on; coco (all detections in COCO's result format), mask (palette PNG of "
    "class ids, the objects pasted, the surer on top)"
)
_MOST_IDS = 2**16 - 1


def write(kind: str, target: Path, image: NDArray[np.uint8], found: Detections, spec: Spec) -> None:
    """Write one file of a prediction, whole or not at all.

    Args:
        kind: one of `KINDS`. Of objects that overlap, the surer one is on top.
        target: the file.
        image: uint8 (H, W, 3).
        found: the objects.
        spec: names of the classes.

    Raises:
        DataError: if there are more objects than 16 bits tell apart.
    """
    if kind == "coco":
        files.write_json(target, coco_results(found, spec))
        return
    sure = found[found.scores >= CONFIDENT]
    with files.atomic(target) as temporary:
        if kind == "mask":
            indexed(pasted_classes(found, paste_of(spec)), spec).save(temporary)
        elif kind == "ids":
            Image.fromarray(ids(sure)).save(temporary)
        else:
            order = range(len(sure) - 1, -1, -1)
            drawn = layer((sure.mask(i) for i in order), [color_of(i) for i in order], sure.size)
            Image.fromarray(over(image, drawn)).save(temporary, quality=90)


def ids(found: Detections) -> NDArray[np.uint16]:
    """Return uint16 (H, W): 1 for the surest object, 2 for the next, 0 for none."""
    if len(found) > _MOST_IDS:
        raise DataError(
            f"{len(found)} objects do not fit into a 16-bit picture of ids. Use --write objects,coco"
        )
    picture = np.zeros(found.size, np.uint16)
    for index in range(len(found) - 1, -1, -1):
        rows, crop = found.masks.crop(index)
        picture[rows][crop] = index + 1
    return picture


def coco_results(found: Detections, spec: Spec) -> list[dict[str, Any]]:
    """Return COCO's results; `category_id` is the class id, `bbox` is x, y, width, height."""
    height, width = found.size
    return [
        {
            "category_id": int(kind),
            "category": spec.classes[int(kind)],
            "bbox": [round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(float(score), 5),
            "segmentation": {"size": [height, width], "counts": runs.tolist()},
        }
        for (y0, x0, y1, x1), score, kind, runs in zip(
            found.boxes, found.scores, found.classes, found.masks.runs, strict=True
        )
    ]


def truth(sample: Any) -> Instances | None:
    """Return what a prediction of a sample is compared with: its instances."""
    found: Instances | None = sample.instances
    return found


def describe(found: Detections, spec: Spec) -> dict[str, Any]:
    """Return `objects`: how many of each class are sure."""
    counts = np.bincount(found.classes[found.scores >= CONFIDENT], minlength=spec.num_classes)
    return {"objects": {name: int(count) for name, count in zip(spec.classes, counts, strict=True) if count}}
