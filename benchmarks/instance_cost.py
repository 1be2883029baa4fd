"""Seconds and peak memory of one image: networks that find instances, as they come, untrained.

The papers' ratio stands beside: SDS takes 48 s an image and MNC 0.36 s (Dai et al., CVPR 2016), on a GPU.

    python benchmarks/instance_cost.py --rounds 3
    python benchmarks/instance_cost.py MNC SDS --size 480x640 --rounds 1

Each network has a process of its own; the processes take turns, and the least seconds count. SDS looks at
2000 regions at most; proposing them is part of its seconds. Writes `benchmarks/results/instance_cost.json`
and `.md`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import skimage.data

import kseg
from deploy.worker import peak_bytes
from kseg import files
from kseg.data.transforms.normalize import preprocess
from kseg.inference.runtime import opened_runtime
from kseg.instance.sds.predictor import RegionPredictor
from kseg.models import create, describe, names
from kseg.options import size as as_size
from kseg.training import record

RESULTS = Path(__file__).parent / "results"
CLASSES = 21
REGIONS = 2000
# Seconds of an image in the papers, on a K40.
PAPERS = {"SDS": 48.0, "MNC": 0.36}


def _network(name: str) -> keras.Model:
    model = create(name, num_classes=CLASSES)
    recipe = {"sds": {"search": {"count": REGIONS}}} if name == "SDS" else {}
    model.spec = kseg.Spec(
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        task=describe(name).task,
        architecture=model.info.architecture,
        recipe=recipe,
    )
    return model


def measure(name: str, side: tuple[int, int]) -> dict[str, Any]:
    """Return what one image costs in this process: seconds of its second run, gigabytes at the peak."""
    image = cv2.resize(skimage.data.astronaut(), side[::-1], interpolation=cv2.INTER_AREA)
    network = _network(name)
    before = peak_bytes()
    if name == "SDS":
        find = functools.partial(RegionPredictor(network).outputs, image)
    else:
        runtime: Any = opened_runtime(network)
        given = preprocess(image, network.spec.normalization)[None]
        find = functools.partial(runtime.outputs, given)
    found = find()
    started = time.perf_counter()
    find()
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 3),
        "peak_gb": round(peak_bytes() / 1e9, 2),
        "peak_gb_before": round(before / 1e9, 2),
        "parameters": network.count_params(),
        "regions": len(found["boxes"]) if name == "SDS" else network.info.arch_args.get("proposals"),
    }


def _in_turns(chosen: list[str], side: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Run one process of each network after the other, `rounds` times; the least of each number counts."""
    best: dict[str, dict[str, Any]] = {}
    for turn in range(1, rounds + 1):
        for name in chosen:
            line = [sys.executable, __file__, name, "--size", side, "--alone"]
            said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            least = {key: min(value, found[key]) for key, value in best.get(name, {}).items() if value}
            best[name] = {**found, **least}
            print(
                f"round {turn} of {rounds}: {name} {found['seconds']:.2f} s, {found['peak_gb']:.2f} GB",
                flush=True,
            )
    return best


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    rows = results["networks"]
    lines = [
        f"One image of {results['size']}, {CLASSES} classes; {results['machine']['processor']}, "
        f"{results['machine']['cores']} cores, {results['date'][:10]}: `{results['command']}`.",
        "",
        "| network | parameters | regions | seconds an image | peak GB | of these before the image |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        regions = "" if row["regions"] is None else row["regions"]
        memory = f"{row['peak_gb']:.2f} | {row['peak_gb_before']:.2f}"
        lines.append(f"| {name} | {row['parameters']:,} | {regions} | {row['seconds']:.2f} | {memory} |")
    if PAPERS.keys() <= rows.keys():
        here = rows["SDS"]["seconds"] / rows["MNC"]["seconds"]
        there = PAPERS["SDS"] / PAPERS["MNC"]
        lines += [
            "",
            f"SDS takes {here:.0f} times as long as MNC; in the papers, on a GPU, {there:.0f} times.",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Print a line for each turn; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="(all)")
    parser.add_argument("--size", default="480x640", help="height x width of the image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="one network, in this process, as JSON")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.networks[0], as_size(args.size))))
        return
    found = _in_turns(args.networks or [*names("instance"), "SDS"], args.size, args.rounds)
    results = {
        "command": " ".join(["python benchmarks/instance_cost.py", *sys.argv[1:]]),
        "size": args.size,
        "networks": found,
        "machine": record.machine(),
        "versions": record.versions(),
        "date": record.now(),
    }
    files.write_json(RESULTS / "instance_cost.json", results)
    files.write_text(RESULTS / "instance_cost.md", page(results))


if __name__ == "__main__":
    main()
