"""Edge boxes (Zitnick and Dollár, ECCV 2014): boxes that hold whole contours."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.boxes import clipped
from kseg.data.proposals.boundaries import Boundaries
from kseg.data.proposals.contrib import ximgproc
from kseg.data.proposals.found import Proposals
from kseg.errors import DataError

# As many as Noh et al. (ICCV 2015) rank per image.
_MOST_EDGE_BOXES = 2000
# Smoothing before the gradient, and the percentile of its magnitude that counts as an edge of strength 1:
# so that thinned gradients pass OpenCV's thresholds, made for structured forests, at a like share of pixels.
_EDGE_SIGMA = 2.0
_EDGE_PERCENTILE = 99.0
# Smoothing of a boundary map before its normals are taken.
_BOUNDARY_SIGMA = 1.5
# What a structured-forest file of OpenCV holds.
_FOREST_PARTS = ("options", "childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")
_FOREST_NUMBERS = (
    "stride",
    "shrinkNumber",
    "patchSize",
    "patchInnerSize",
    "numberOfGradientOrientations",
    "selfsimilarityGridSize",
    "numberOfTrees",
    "numberOfTreesToEvaluate",
)


def edge_boxes(image: NDArray[np.uint8], model: str | None, find: Boundaries | None = None) -> Proposals:
    """Return the boxes of a uint8 `(H, W, 3)` RGB image by falling score.

    Args:
        image: the image.
        model: file of a structured forest; see `Proposer`.
        find: boundaries to take in place of gradients; not with `model`.
    """
    if model is not None:
        edges, normals = _forest_edges(image, model)
    elif find is not None:
        edges, normals = boundary_edges(find(image))
    else:
        edges, normals = gradient_edges(image)
    found, scores = ximgproc().createEdgeBoxes(maxBoxes=_MOST_EDGE_BOXES).getBoundingBoxes(edges, normals)
    left, top, width, height = np.asarray(found, np.int32).reshape(-1, 4).T
    # OpenCV's port counts pixels from 1, and its boxes end on their last pixel.
    boxes = np.stack([top - 1, left - 1, top + height, left + width], axis=1)
    boxes = clipped(boxes, (image.shape[0], image.shape[1]))
    return Proposals(boxes=boxes, scores=np.asarray(scores, np.float32).reshape(-1))


def gradient_edges(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return strength 0-1 `(H, W)`, zero off the ridges, and the direction 0-π of the edge's normal."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), _EDGE_SIGMA))
    across, down = (np.asarray(cv2.Sobel(lab, cv2.CV_32F, x, 1 - x)) for x in (1, 0))
    strongest = (across**2 + down**2).argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(part, strongest, axis=2)[..., 0] for part in (across, down))
    length = np.hypot(across, down)
    unit = np.maximum(length, 1e-6)
    strength = np.minimum(length / max(float(np.percentile(length, _EDGE_PERCENTILE)), 1e-6), 1)
    ridge = _ridge(length, across / unit, down / unit)
    return np.where(ridge, strength, 0).astype(np.float32), np.mod(np.arctan2(down, across), np.pi)


def boundary_edges(strength: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a boundary map thinned to its ridges, `(H, W)`, and the direction 0-π of the boundary's normal.

    The normal is the direction in which the smoothed map is bent downwards most.
    """
    smooth = np.asarray(cv2.GaussianBlur(strength, (0, 0), _BOUNDARY_SIGMA))
    xx, yy, xy = (np.asarray(cv2.Sobel(smooth, cv2.CV_32F, *order)) for order in ((2, 0), (0, 2), (1, 1)))
    normals = np.mod((np.arctan2(2 * xy, xx - yy) + np.pi) / 2, np.pi).astype(np.float32)
    ridge = _ridge(smooth, np.cos(normals), np.sin(normals))
    return np.where(ridge, strength, 0).astype(np.float32), normals


def _ridge(height: NDArray[Any], across: NDArray[Any], down: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a map is no lower than a pixel further along unit vectors (across, down), both ways."""
    rows, columns = np.indices(height.shape, np.float32)
    sides = [
        cv2.remap(
            height,
            columns + way * across,
            rows + way * down,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for way in (1, -1)
    ]
    return (height >= sides[0]) & (height >= sides[1])


def _forest_edges(image: NDArray[np.uint8], model: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    forest = _forest(model)
    edges = forest.detectEdges(image.astype(np.float32) / 255)
    normals = forest.computeOrientation(edges)
    return forest.edgesNms(edges, normals), normals


@functools.lru_cache(maxsize=1)
def _forest(model: str) -> Any:
    try:
        # OpenCV does not look before it divides by what a file of another kind lacks: the process dies.
        reason = _forest_fault(cv2.FileStorage(model, cv2.FILE_STORAGE_READ))
        if not reason:
            return ximgproc().createStructuredEdgeDetection(model)
    except (cv2.error, SystemError):
        reason = "OpenCV cannot read it as YAML, XML or JSON"
    raise DataError(
        f"'{model}' is no structured-forest edge model: {reason}. OpenCV's own is model.yml.gz of its "
        "opencv_extra repository"
    )


def _forest_fault(content: cv2.FileStorage) -> str:
    """Return what keeps a file from being a structured forest, empty when nothing does."""
    missing = [name for name in _FOREST_PARTS if content.getNode(name).empty()]
    if missing:
        return f"it lacks {', '.join(missing)}"
    options = content.getNode("options")
    if not options.isMap():
        return "its options are no mapping"
    wrong = [name for name in _FOREST_NUMBERS if not _is_positive(options.getNode(name))]
    if wrong:
        return f"its options {', '.join(wrong)} are no positive numbers"
    trees = int(options.getNode("numberOfTrees").real())
    parts = [content.getNode(name) for name in ("childs", "featureIds", "thresholds")]
    if any(not part.isSeq() or part.size() != trees for part in parts):
        return f"its childs, featureIds and thresholds are not of {trees} trees"
    if len({tuple(part.at(tree).size() for tree in range(trees)) for part in parts}) > 1:
        return "its childs, featureIds and thresholds have different lengths"
    return ""


def _is_positive(node: cv2.FileNode) -> bool:
    return (node.isInt() or node.isReal()) and node.real() >= 1
