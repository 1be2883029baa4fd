"""Objects out of class maps: connected components or a watershed, the plain road that networks must beat.

This is what `--objects` of `kseg evaluate` and `kseg predict` does with a semantic model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg import parsers
from kseg.checks import Range, check_choice, whole
from kseg.data.detections import Detections
from kseg.data.run_lengths import Masks
from kseg.errors import require
from kseg.inference.distributions import probabilities
from kseg.inference.pictures import Picture, as_image
from kseg.instance.object_finder import ObjectFinder
from kseg.spec import Spec

METHODS = ("components", "watershed")
# What is smaller is taken for noise, in pixels.
LEAST = 10
# Two peaks of the distance to the border are two objects if they are further apart, in pixels.
APART = 5.0
# Smooths the distance, so that a ragged border makes no peaks, in pixels.
SMOOTH = 1.0
EXTRA = "refine"


def separated(
    mask: NDArray[np.bool_], method: str = "watershed", apart: float = APART
) -> tuple[NDArray[np.int32], int]:
    """Return the objects of a mask `(H, W)` as ids `(H, W)`, 0 for none, and their number.

    Args:
        mask: where the class is.
        method: `"components"`: what touches (by a side or a corner) is one object; `"watershed"`: each peak
            of the distance to the border is one, and the borders between them lie where the distance is
            least (Vincent & Soille, PAMI 1991).
        apart: of peaks, in pixels.
    """
    if method == "components":
        count, ids = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        return ids.astype(np.int32), count - 1
    segmentation, feature = require("skimage.segmentation", EXTRA), require("skimage.feature", EXTRA)
    # The border of the image is no border of an object.
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    distance = cv2.GaussianBlur(distance, (0, 0), SMOOTH) * mask
    peaks = feature.peak_local_max(
        distance, min_distance=max(1, round(apart)), labels=mask.astype(np.int32), exclude_border=False
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    ids = segmentation.watershed(-distance, seeds, mask=mask).astype(np.int32)
    return ids, len(peaks)


class ObjectsOfClasses(ObjectFinder):
    """Finds objects with a network that says the class of each pixel.

    Args:
        base: predicts class maps: `kseg.Predictor`, or what has its surface.
        method: see `separated`.
        apart: see `separated`.
        least: smaller objects are left out, in pixels.

    Returns:
        `predictor(images)`: the `kseg.data.Detections` of each image. The score of an object is the mean
        probability of its class inside it.

    Raises:
        UsageError: if an argument is out of range.
        MissingExtraError: if scikit-image is not installed and a watershed is asked for.
    """

    batch_size = 1

    def __init__(
        self, base: Any, method: str = "watershed", *, apart: float = APART, least: int = LEAST
    ) -> None:
        self.base = base
        self.method = check_choice("method", method, METHODS)
        self.apart = float(Range(1, 1e6).check(apart, "apart"))
        self.least = whole(least, "Argument", "least")
        if method == "watershed":
            require("skimage.segmentation", EXTRA)
        self.spec: Spec = base.spec.replace(task="instance")
        self.runtime, self.size, self.resize = base.runtime, base.size, base.resize

    def outputs(self, picture: Picture) -> Mapping[str, NDArray[Any]]:
        """Return the network's `logits` `(H, W, C)` of one image."""
        return {"logits": self.base.logits(as_image(picture))}

    def decide(self, outputs: Mapping[str, NDArray[Any]]) -> Detections:
        """Return the objects that logits mean."""
        logits = outputs["logits"]
        size = (int(logits.shape[0]), int(logits.shape[1]))
        likely = probabilities(logits)
        best = logits.argmax(axis=-1)
        runs: list[NDArray[np.uint32]] = []
        scores: list[float] = []
        classes: list[int] = []
        for kind in range(1, logits.shape[-1]):
            ids, count = separated(best == kind, self.method, self.apart)
            areas = np.bincount(ids.reshape(-1), minlength=count + 1)
            sums = np.bincount(ids.reshape(-1), likely[..., kind].reshape(-1), minlength=count + 1)
            large = np.flatnonzero(areas[1:] >= self.least)
            runs += Masks.from_layers(ids[None], count)[large].runs
            scores += (sums[1:] / np.maximum(areas[1:], 1))[large].tolist()
            classes += [kind] * len(large)
        return Detections.of(Masks(tuple(runs), size), scores, classes)

    def close(self) -> None:
        """Free the runtime."""
        self.base.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `wrap` reads them."""
    group = parser.add_argument_group("objects out of the classes of a semantic model")
    group.add_argument(
        "--objects",
        choices=METHODS,
        help="find objects in the class maps and treat them as an instance network's: connected components, "
        "or a watershed of the distance to the border, which parts what touches",
    )
    group.add_argument(
        "--objects-apart",
        type=parsers.number(1, 1e6),
        default=APART,
        metavar="PIXELS",
        help=f"the watershed's peaks are at least so far apart ({APART:g})",
    )
    group.add_argument(
        "--objects-least",
        type=parsers.positive,
        default=LEAST,
        metavar="PIXELS",
        help=f"smaller objects are left out ({LEAST})",
    )


def wrap(args: argparse.Namespace, predictor: Any) -> Any:
    """Return what finds objects with `predictor`, or `predictor` itself when nobody asked."""
    if args.objects is None:
        return predictor
    return ObjectsOfClasses(predictor, args.objects, apart=args.objects_apart, least=args.objects_least)


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options as JSON values; nothing when nobody asked."""
    if args.objects is None:
        return {}
    return {
        "objects": {"method": args.objects, "apart": args.objects_apart, "least": args.objects_least},
    }


def around(options: dict[str, Any]) -> list[str]:
    """Say how objects were found."""
    return [f"objects by {options['objects']['method']}"] if "objects" in options else []
