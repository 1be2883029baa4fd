"""Object proposals: boxes that may hold an object, from OpenCV's contrib modules, and work on boxes.

A box is `(y0, x0, y1, x1)` in pixels, its end exclusive. Selective search: Uijlings et al., IJCV 2013. Edge
boxes: Zitnick and Dollár, ECCV 2014.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.data.transforms.joint import Color, fitted_size, resize_image
from kseg.errors import DataError, MissingExtraError, UsageError, did_you_mean

METHODS = ("selective-search", "edge-boxes")

Boxes = NDArray[np.int32]
Propose = Callable[[NDArray[np.uint8]], Boxes]

# As many as Noh et al. (ICCV 2015) rank per image.
_MOST_EDGE_BOXES = 2000
# Smoothing before the gradient, and the percentile of its magnitude that counts as an edge of strength 1:
# so that thinned gradients pass OpenCV's thresholds, made for structured forests, at a like share of pixels.
_EDGE_SIGMA = 2.0
_EDGE_PERCENTILE = 99.0
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


@dataclass(frozen=True, kw_only=True)
class Proposer:
    """Finds all boxes of an image, the most promising first: `proposer(image)`.

    Args:
        method: `"selective-search"` (regions that merge by colour, texture, size and fill) or `"edge-boxes"`
            (boxes that hold whole contours).
        quality: selective search in five colour spaces instead of two: more boxes, and several times slower.
        max_side: larger images are searched in a copy whose longer side has this many pixels. Default 500,
            the size of the images that both methods were made for.
        seed: of selective search's order; see `propose`.
        edge_model: file of a structured-forest edge detector (OpenCV's `model.yml.gz`) for edge boxes, as in
            the paper. Default: gradients of the smoothed Lab image, thinned to ridges, which need no file.

    Raises:
        UsageError: if an argument is unknown, out of range, or not for this method.
        MissingExtraError: if OpenCV was installed without its contrib modules.
    """

    method: str = "selective-search"
    quality: bool = False
    max_side: int = 500
    seed: int = 0
    edge_model: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(
                f"Argument `method` must be one of {', '.join(METHODS)}. Received: method={self.method!r}."
                f"{did_you_mean(str(self.method), list(METHODS))}"
            )
        for name, least in (("max_side", 16), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"Argument `{name}` must be an integer of at least {least}. Received: {value!r}"
                )
        if self.edge_model is not None and self.method != "edge-boxes":
            raise UsageError(f"Argument `edge_model` is for edge-boxes. Received: method={self.method!r}")
        if self.quality and self.method != "selective-search":
            raise UsageError(f"Argument `quality` is for selective-search. Received: method={self.method!r}")
        if self.edge_model is not None and not os.path.isfile(self.edge_model):
            raise UsageError(f"Argument `edge_model`: there is no file '{self.edge_model}'")
        _ximgproc()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Return int32 `(N, 4)` boxes inside the uint8 `(H, W, 3)` RGB image; N may be 0.

        Raises:
            UsageError: if the image is not uint8 RGB.
            DataError: if `edge_model` is no structured-forest file.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise UsageError(
                "Argument `image` must be uint8 RGB of shape (H, W, 3). "
                f"Received: {image.dtype} {image.shape}"
            )
        size = (image.shape[0], image.shape[1])
        if max(size) > self.max_side:
            image = resize_image(image, fitted_size(size, (self.max_side, self.max_side)))
        if self.method == "selective-search":
            boxes = _selective_search(image, self.quality, self.seed)
        else:
            boxes = _edge_boxes(image, self.edge_model)
        return _rescaled(boxes, (image.shape[0], image.shape[1]), size)


def propose(
    image: NDArray[np.uint8],
    method: str = "selective-search",
    count: int | None = 50,
    *,
    quality: bool = False,
    max_side: int = 500,
    seed: int = 0,
    edge_model: str | None = None,
) -> Boxes:
    """Return the first `count` boxes (None: all) that may hold an object; the same at every call.

    Edge boxes come by falling score. Selective search has no score: as in its paper, a box's rank is its
    place in the hierarchy of regions, large ones first, times a random number; OpenCV draws that number anew
    at each call, so it is drawn here, from `seed`, with the order by area in place of the hierarchy.

    Args:
        image: uint8 `(H, W, 3)` RGB.
        count: most boxes that are returned.
        method, quality, max_side, seed, edge_model: see `Proposer`.

    Returns:
        int32 `(N, 4)`, N <= count: `(y0, x0, y1, x1)`, the end exclusive, inside the image. A picture
        without any contrast has no edge boxes, and one selective-search box, itself.
    """
    if count is not None and count < 1:
        raise UsageError(f"Argument `count` must be at least 1, or None for all. Received: count={count!r}")
    proposer = Proposer(method=method, quality=quality, max_side=max_side, seed=seed, edge_model=edge_model)
    return proposer(image)[:count]


def proposer(method: str | Propose, **options: Any) -> Propose:
    """Return what finds the boxes: a `Proposer` of that name, or the callable that was given.

    Args:
        method: a name, or anything that gives `(N, 4)` boxes for a uint8 `(H, W, 3)` image, best first.
        **options: of `Proposer`; a callable takes none.
    """
    if not callable(method):
        return Proposer(method=method, **options)
    if options:
        raise UsageError(f"A `method` of your own takes no options. Received: {', '.join(sorted(options))}")
    return method


def checked(found: Any) -> NDArray[Any]:
    """Return what a method gave as boxes `(N, 4)`.

    Raises:
        UsageError: if it is something else, or a side is not positive.
    """
    boxes = np.asarray(found)
    if boxes.size == 0:
        return np.zeros((0, 4), np.int32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise UsageError(
            "Argument `method` must give (N, 4) boxes (y0, x0, y1, x1) with y0 < y1 and x0 < x1. "
            f"Received: {boxes.dtype} {boxes.shape}"
        )
    return boxes


def _ximgproc() -> Any:
    module = getattr(cv2, "ximgproc", None)
    if module is None or not hasattr(module, "createEdgeBoxes"):
        raise MissingExtraError(
            "Object proposals need OpenCV's contrib modules, and this `cv2` has no `ximgproc`. Run: "
            "pip uninstall opencv-python opencv-python-headless, then pip install --force-reinstall "
            "opencv-contrib-python-headless"
        )
    return module


def _selective_search(image: NDArray[np.uint8], quality: bool, seed: int) -> Boxes:
    search = _ximgproc().segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    if quality:
        search.switchToSelectiveSearchQuality()
    else:
        search.switchToSelectiveSearchFast()
    # The set of boxes is the same at every call, their order is not.
    found = np.unique(np.asarray(search.process(), np.int32).reshape(-1, 4), axis=0)
    found = found[np.argsort(-found[:, 2] * found[:, 3], kind="stable")]
    rank = np.random.default_rng(seed).random(len(found)) * np.arange(1, len(found) + 1)
    left, top, width, height = found[np.argsort(rank, kind="stable")].T
    return np.stack([top, left, top + height, left + width], axis=1)


def _edge_boxes(image: NDArray[np.uint8], model: str | None) -> Boxes:
    edges, normals = _gradient_edges(image) if model is None else _forest_edges(image, model)
    found, _ = _ximgproc().createEdgeBoxes(maxBoxes=_MOST_EDGE_BOXES).getBoundingBoxes(edges, normals)
    left, top, width, height = np.asarray(found, np.int32).reshape(-1, 4).T
    # OpenCV's port counts pixels from 1, and its boxes end on their last pixel.
    boxes = np.stack([top - 1, left - 1, top + height, left + width], axis=1)
    return np.clip(boxes, 0, [*image.shape[:2], *image.shape[:2]]).astype(np.int32)


def _gradient_edges(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return strength 0-1 `(H, W)`, zero off the ridges, and the direction 0-π of the edge's normal."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), _EDGE_SIGMA))
    across, down = (np.asarray(cv2.Sobel(lab, cv2.CV_32F, x, 1 - x)) for x in (1, 0))
    strongest = (across**2 + down**2).argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(part, strongest, axis=2)[..., 0] for part in (across, down))
    length = np.hypot(across, down)
    unit = np.maximum(length, 1e-6)
    strength = np.minimum(length / max(float(np.percentile(length, _EDGE_PERCENTILE)), 1e-6), 1)
    rows, columns = np.indices(length.shape, np.float32)
    sides = [
        cv2.remap(
            length,
            columns + way * across / unit,
            rows + way * down / unit,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for way in (1, -1)
    ]
    ridge = (length >= sides[0]) & (length >= sides[1])
    return np.where(ridge, strength, 0).astype(np.float32), np.mod(np.arctan2(down, across), np.pi)


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
            return _ximgproc().createStructuredEdgeDetection(model)
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


def _rescaled(boxes: Boxes, source: tuple[int, int], target: tuple[int, int]) -> Boxes:
    """Bring boxes of the searched copy to the image's pixels, rounded outwards."""
    if source == target or not len(boxes):
        return boxes.astype(np.int32)
    factor = np.array([target[0] / source[0], target[1] / source[1]])
    # Rounded to a millionth of a pixel first, so that a whole number does not spill over.
    first = np.floor(np.round(boxes[:, :2] * factor, 6))
    last = np.minimum(np.ceil(np.round(boxes[:, 2:] * factor, 6)), target)
    return np.concatenate([first, last], axis=1).astype(np.int32)


def enlarge(boxes: NDArray[Any], factor: float, min_side: int = 1) -> Boxes:
    """Return `(N, 4)` boxes grown about their centres; they may reach outside the image.

    Args:
        boxes: integer `(N, 4)`.
        factor: of both sides, 1 to 10.
        min_side: sides that are still shorter grow to this many pixels.

    Raises:
        UsageError: if the factor is out of range.
    """
    if not 1 <= factor <= 10:
        raise UsageError(f"Argument `enlarge` must be 1 to 10. Received: enlarge={factor!r}")
    boxes = np.asarray(boxes).reshape(-1, 4)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]) * factor, min_side) / 2
    # Up at both ends, so that a side keeps its length: rounding to even would not.
    return np.floor(np.concatenate([center - half, center + half], axis=1) + 0.5).astype(np.int32)


def iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the intersection over union, 0-1, of every box with every other: `(N, M)`."""
    first, second = np.asarray(boxes)[:, None].astype(np.int64), np.asarray(others)[None].astype(np.int64)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    areas = (first[..., 2:] - first[..., :2]).prod(axis=-1) + (second[..., 2:] - second[..., :2]).prod(
        axis=-1
    )
    return common / np.maximum(areas - common, 1)


def windows(box: NDArray[Any], size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a box meets an image of `size`: as rows and columns of the image, and of the box.

    Both are empty when the box lies outside.
    """
    inside, within = [], []
    for axis in (0, 1):
        start, stop = int(box[axis]), int(box[axis + 2])
        low = min(max(start, 0), size[axis])
        high = max(min(stop, size[axis]), low)
        inside.append(slice(low, high))
        within.append(slice(low - start, high - start))
    return (inside[0], inside[1]), (within[0], within[1])


def cut(values: NDArray[Any], box: NDArray[Any], fill: int | Color) -> NDArray[Any]:
    """Return the `(y1 - y0, x1 - x0, ...)` part of `(H, W, ...)` under a box, `fill` outside the image."""
    inside, within = windows(box, (values.shape[0], values.shape[1]))
    shape = (int(box[2] - box[0]), int(box[3] - box[1]), *values.shape[2:])
    part = np.empty(shape, values.dtype)
    part[:] = fill
    part[within] = values[inside]
    return part
