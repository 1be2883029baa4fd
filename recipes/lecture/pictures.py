"""Draw what each step of the lecture predicts for one CamVid test frame: class maps only, no photographs.

Usage: python recipes/lecture/pictures.py CAMVID_FOLDER [RUN_FOLDER]   (default: runs/lecture)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from kseg import data, files, viz
from kseg.inference import EnsemblePredictor, Predictor, ProposalPredictor
from kseg.inference.refine import Refined, create

HERE = Path(__file__).parent
FOLDER = HERE / "results"
FRAME = 120
# Step -> (label, model below the run folder, refiner or "proposals" or "ensemble" or None).
STEPS: dict[str, Sequence[tuple[str, str, str | None]]] = {
    "patches": [
        ("balanced", "patch/seed0/balanced/model.keras", None),
        ("natural", "patch/seed0/natural/model.keras", None),
    ],
    "scales": [
        ("one scale", "farabet/seed0/one/model.keras", None),
        ("three scales", "farabet/seed0/three/model.keras", None),
        ("three, MLP", "farabet/seed0/three_mlp/model.keras", None),
    ],
    "regions": [
        ("three, MLP", "farabet/seed0/three_mlp/model.keras", None),
        ("superpixels", "farabet/seed0/three_mlp/model.keras", "superpixels"),
        ("superpixel CRF", "farabet/seed0/three_mlp/model.keras", "superpixel-crf"),
        ("tree cover", "farabet/seed0/three_mlp/model.keras", "tree-cover"),
    ],
    "recurrence": [(f"{n} of 3", f"rcnn/seed0/rcnn3/model{n}.keras", None) for n in (1, 2, 3)],
    "skips": [
        ("32s", "fcn/seed0/32s_on/model.keras", None),
        ("16s", "fcn/seed0/16s/model.keras", None),
        ("8s", "fcn/seed0/8s/model.keras", None),
        ("8s, learned", "fcn/seed0/8s_learned/model.keras", None),
    ],
    "switches": [
        ("fixed corner", "deconvnet/seed0/fixed/model.keras", None),
        ("switches", "deconvnet/seed0/switches/model.keras", None),
        ("switches, 160 epochs", "deconvnet/seed0/switches_long/model.keras", None),
        ("two stages", "deconvnet/seed0/staged/proposals/model.keras", None),
        ("by proposals", "deconvnet/seed0/staged/proposals/model.keras", "proposals"),
    ],
    "ensemble": [
        ("DeconvNet", "deconvnet/seed0/switches_long/model.keras", None),
        ("FCN-8s", "fcn/seed0/8s/model.keras", None),
        ("mean", "deconvnet/seed0/switches_long/model.keras", "ensemble"),
    ],
    "crf": [
        ("FCN-32s", "fcn/seed0/32s_on/model.keras", None),
        ("+ dense CRF", "fcn/seed0/32s_on/model.keras", "dense-crf"),
        ("FCN-8s", "fcn/seed0/8s/model.keras", None),
        ("+ dense CRF", "fcn/seed0/8s/model.keras", "dense-crf"),
    ],
    "textons": [
        ("TextonBoost", "textonboost/seed0/textonboost/model.keras", None),
        ("+ dense CRF", "textonboost/seed0/textonboost/model.keras", "dense-crf"),
    ],
}


def segment(runs: Path, model: str, how: str | None, image: np.ndarray) -> np.ndarray:
    """Return the class map of `image` by one model, used as `how` says."""
    predictor = Predictor(runs / model)
    if how == "proposals":
        return ProposalPredictor(predictor)(image)[0]
    if how == "ensemble":
        other = Predictor(runs / "fcn/seed0/8s/model.keras")
        return EnsemblePredictor([predictor, other], form="mean")(image)[0]
    return (predictor if how is None else Refined(predictor, [create(how)]))(image)[0]


def main(folder: str, runs: Path) -> int:
    """Draw the steps whose models are there; returns 1 when there is none."""
    samples = data.open(folder).samples("test")
    image, spec = samples[FRAME].image, samples.spec
    drawn = 0
    for step, panels in STEPS.items():
        if not all((runs / model).is_file() for _, model, _ in panels):
            continue
        figure, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 2.1))
        for axis, (label, model, how) in zip(axes, panels, strict=True):
            axis.imshow(viz.colorize(segment(runs, model, how, image), spec), interpolation="nearest")
            axis.set_title(label, fontsize=9)
            axis.set_axis_off()
        figure.tight_layout(pad=0.3)
        with files.atomic(FOLDER / f"{step}_maps.png") as temporary:
            figure.savefig(temporary, dpi=90, format="png")
        plt.close(figure)
        print(f"{step}: {len(panels)} maps")
        drawn += 1
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "runs/lecture")))
