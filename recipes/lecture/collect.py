"""Gather the test scores of the lecture's recipes: one JSON and one plot per claim, over all seeds.

Usage: python recipes/lecture/collect.py [RUN_FOLDER]   (default: runs/lecture)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from kseg import files

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SCORES = {"miou": "mean IoU", "pixel_acc": "pixel accuracy", "mean_acc": "class accuracy"}
OBJECTS = {"ap": "mask AP", "ap50": "mask AP50", "ap75": "mask AP75", "box_ap": "box AP"}


@dataclass(frozen=True)
class Claim:
    """One statement of the lecture and the scores that it is judged by.

    Args:
        title: the statement.
        rows: label -> path of the scores below the run folder, with `{seed}`.
        scores: their names in that file -> their names in words.
        data: what they were measured on.
    """

    title: str
    rows: dict[str, str]
    scores: dict[str, str] = field(default_factory=lambda: SCORES)
    data: str = "camvid test"


CLAIMS = {
    "patches": Claim(
        "Patch network: class-balanced or natural sampling",
        {
            "balanced": "patch/seed{seed}/balanced/test.json",
            "balanced, every pixel": "patch/seed{seed}/balanced/dense.json",
            "natural": "patch/seed{seed}/natural/test.json",
            "natural, every pixel": "patch/seed{seed}/natural/dense.json",
        },
    ),
    "scales": Claim(
        "Several scales against one",
        {
            "one scale": "farabet/seed{seed}/one/test.json",
            "three scales": "farabet/seed{seed}/three/test.json",
            "three scales, MLP": "farabet/seed{seed}/three_mlp/test.json",
        },
    ),
    "samplings": Claim(
        "Natural or class-balanced pixels (Farabet, three scales)",
        {
            "natural": "farabet/seed{seed}/pixels/test.json",
            "balanced": "farabet/seed{seed}/balanced-pixels/test.json",
        },
    ),
    "regions": Claim(
        "Superpixels, superpixel CRF and tree cover",
        {
            "three scales, MLP": "farabet/seed{seed}/three_mlp/test.json",
            "superpixels": "farabet/seed{seed}/three_mlp/superpixels.json",
            "CRF over superpixels": "farabet/seed{seed}/three_mlp/superpixel_crf.json",
            "CRF, log unary, gamma 3": "farabet/seed{seed}/three_mlp/superpixel_crf_log.json",
            "tree cover": "farabet/seed{seed}/three_mlp/tree_cover.json",
            "tree cover, trained": "farabet/seed{seed}/three_mlp/tree_cover_trained.json",
        },
    ),
    "recurrence": Claim(
        "Recurrent network at 1, 2, 3 iterations",
        {f"{n} of 3": f"rcnn/seed{{seed}}/rcnn3/test{n}.json" for n in (1, 2, 3)},
    ),
    "skips": Claim(
        "32s, 16s, 8s at equal epochs",
        {
            "32s, 35 epochs": "fcn/seed{seed}/32s_on/test.json",
            "16s, 35 epochs": "fcn/seed{seed}/16s/test.json",
            "16s, 50 epochs": "fcn/seed{seed}/16s_on/test.json",
            "8s, 50 epochs": "fcn/seed{seed}/8s/test.json",
        },
    ),
    "upsampling": Claim(
        "Fixed against learned upsampling (FCN-8s)",
        {
            "fixed": "fcn/seed{seed}/8s/test.json",
            "learned": "fcn/seed{seed}/8s_learned/test.json",
        },
    ),
    "switches": Claim(
        "Unpooling with switches or to a fixed corner (DeconvNet)",
        {
            "fixed corner": "deconvnet/seed{seed}/fixed/test.json",
            "switches": "deconvnet/seed{seed}/switches/test.json",
            "fixed corner, 160 epochs": "deconvnet/seed{seed}/fixed_long/test.json",
            "switches, 160 epochs": "deconvnet/seed{seed}/switches_long/test.json",
        },
    ),
    "proposals": Claim(
        "DeconvNet trained in two stages: whole images or proposals",
        {
            "whole image": "deconvnet/seed{seed}/staged/proposals/some.json",
            "proposals": "deconvnet/seed{seed}/staged/proposals/by_proposals.json",
        },
    ),
    "ensemble": Claim(
        "Ensemble against its parts",
        {
            "FCN-8s": "fcn/seed{seed}/8s/test.json",
            "DeconvNet, 20 epochs": "deconvnet/seed{seed}/switches/test.json",
            "mean": "deconvnet/seed{seed}/switches/ensemble_mean.json",
            "product": "deconvnet/seed{seed}/switches/ensemble_product.json",
            "DeconvNet, 160 epochs": "deconvnet/seed{seed}/switches_long/test.json",
            "mean, 160 epochs": "deconvnet/seed{seed}/switches_long/ensemble_mean.json",
            "product, 160 epochs": "deconvnet/seed{seed}/switches_long/ensemble_product.json",
        },
    ),
    "family": Claim(
        "The other systems, on the same road",
        {
            "N4": "family/seed{seed}/n4/test.json",
            "CNN1, plain": "family/seed{seed}/cnn1/test.json",
            "rCNN2": "family/seed{seed}/rcnn2/test.json",
            "FCN-AlexNet": "family/seed{seed}/alexnet/test.json",
            "FCN-8s at once": "family/seed{seed}/8s_at_once/test.json",
            "FCN-8s, two heads": "family/seed{seed}/8s_two_heads/test.json",
            "second head (3 classes)": "family/seed{seed}/8s_two_heads/geometric.json",
        },
    ),
    "crf": Claim(
        "Dense CRF before and after",
        {
            "FCN-32s": "fcn/seed{seed}/32s_on/some.json",
            "FCN-32s + dense CRF": "fcn/seed{seed}/32s_on/dense_crf.json",
            "FCN-8s": "fcn/seed{seed}/8s/some.json",
            "FCN-8s + dense CRF": "fcn/seed{seed}/8s/dense_crf.json",
            "FCN-8s, CRF-RNN trained": "crf/seed{seed}/crfrnn/some.json",
        },
    ),
    "textons": Claim(
        "TextonBoost as a baseline",
        {
            "TextonBoost": "textonboost/seed{seed}/textonboost/test.json",
            "TextonBoost, 60 images": "textonboost/seed{seed}/textonboost/some.json",
            "with dense CRF, 60 images": "textonboost/seed{seed}/textonboost/dense_crf.json",
        },
    ),
    "cascade": Claim(
        "Cascades of 3 and 5 stages, and boxes without the later losses",
        {
            "3 stages": "cascade/seed{seed}/stages3/val.json",
            "5 stages": "cascade/seed{seed}/stages5/val.json",
            "5 stages, not through boxes": "cascade/seed{seed}/stages5_cut/val.json",
        },
        OBJECTS,
        "nuclei val",
    ),
    "one_stage": Claim(
        "One stage, two stages",
        {
            "StarDist": "nuclei_stardist/seed{seed}/val.json",
            "Mask R-CNN": "mask_rcnn/seed{seed}/mask_rcnn/val.json",
        },
        OBJECTS,
        "nuclei val",
    ),
    "trunks": Claim(
        "A pretrained trunk where images are few",
        {
            "from scratch": "trunks/seed{seed}/scratch/val.json",
            "ImageNet's trunk": "trunks/seed{seed}/pretrained/val.json",
        },
        OBJECTS,
        "coco_mini val",
    ),
    "overfit": Claim(
        "Sixteen images by heart",
        {
            "Mask R-CNN": "overfit/seed{seed}/mask_rcnn/train.json",
            "Faster R-CNN": "overfit/seed{seed}/faster_rcnn/train.json",
            "MNC": "overfit/seed{seed}/mnc/train.json",
        },
        OBJECTS,
        "16 images of coco_mini train",
    ),
}


def read(path: Path, runs: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the scores of one evaluation and the facts of the training behind it, local paths left out."""
    scores = json.loads(path.read_text().replace(str(runs), "RUNS"))
    run = json.loads((path.parent / "run.json").read_text())
    arguments = run["arguments"]
    return {
        **{name: round(100 * scores[name], 2) for name in names},
        "images": scores["images"],
        "options": scores["options"],
        "model": arguments["model"],
        "model_args": arguments["model_args"],
        **{name: arguments[name] for name in ("encoder", "weights", "limit") if arguments[name] is not None},
        "epochs": run["result"]["epochs"],
        "training_seconds": round(run["result"]["seconds"]),
        "seed": arguments["seed"],
        "date": run["ended"],
        "versions": run["versions"],
        "machine": run["machine"],
    }


def gather(claim: Claim, runs: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a claim that were measured, each with its seeds in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for label, pattern in claim.rows.items():
        paths = sorted(runs.glob(pattern.format(seed="*")))
        if paths:
            found[label] = [read(path, runs, claim.scores) for path in paths]
    return found


def plot(claim: Claim, rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One dot per seed and one bar for their mean, for each row and score."""
    figure, axes = plt.subplots(1, len(claim.scores), figsize=(9, 0.42 * len(rows) + 1.2), sharey=True)
    labels = list(rows)
    for axis, (name, text) in zip(axes, claim.scores.items(), strict=True):
        for position, label in enumerate(labels):
            values = [row[name] for row in rows[label]]
            axis.barh(position, sum(values) / len(values), color="#9db8d2")
            axis.plot(values, [position] * len(values), "o", color="#1f3b57", markersize=4)
        axis.set_yticks(range(len(labels)), labels)
        axis.invert_yaxis()
        axis.set_title(text, fontsize=9)
        axis.tick_params(labelsize=8)
    figure.suptitle(claim.title, fontsize=10)
    figure.tight_layout()
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def table(claim: Claim, rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the scores as text, one line per row."""
    return "\n".join(
        f"  {label:28s} " + "  ".join(f"{name} {_values(seeds, name)}" for name in claim.scores)
        for label, seeds in rows.items()
    )


def _values(seeds: Sequence[dict[str, Any]], name: str) -> str:
    return " / ".join(f"{row[name]:.1f}" for row in seeds)


def main(runs: Path) -> int:
    """Write what was measured; returns 1 when no claim has a score yet."""
    written = 0
    for name, claim in CLAIMS.items():
        rows = gather(claim, runs)
        if not rows:
            continue
        files.write_json(RESULTS / f"{name}.json", {"claim": claim.title, "data": claim.data, "rows": rows})
        plot(claim, rows, RESULTS / f"{name}.png")
        print(f"{name}: {claim.title}\n{table(claim, rows)}")
        written += 1
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lecture")))
