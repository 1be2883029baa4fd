"""Finding the proposals of an image by any method, at a bounded size."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, sides
from kseg.data.proposals.boundaries import check_detector, default_detector, detector
from kseg.data.proposals.contrib import ximgproc
from kseg.data.proposals.edge_boxes import edge_boxes
from kseg.data.proposals.found import Proposals
from kseg.data.proposals.regions import regions
from kseg.data.proposals.selective_search import selective_search
from kseg.data.transforms.resize import fitted_size, resize_image
from kseg.errors import UsageError, did_you_mean

METHODS = ("selective-search", "edge-boxes", "regions")
# As many regions as edge boxes.
_MOST_REGIONS = 2000
# How much a small image is enlarged at most before regions are searched.
_ENLARGED = 2

Propose = Callable[[NDArray[np.uint8]], Boxes]


@dataclass(frozen=True, kw_only=True)
class Proposer:
    """Finds all proposals of an image, the most promising first: `proposer.find(image)`.

    Called like a function it gives their boxes alone.

    Args:
        method: `"selective-search"` (regions that merge by colour, texture, size and fill), `"edge-boxes"`
            (boxes that hold whole contours) or `"regions"` (superpixels of a boundary map that merge, with
            their masks; at most 2000).
        quality: selective search in five colour spaces instead of two: more boxes, and several times slower.
        max_side: larger images are searched in a copy whose longer side has this many pixels. Default 500,
            the size of the images that these methods were made for. Regions are searched in an enlarged copy
            of smaller images, up to twice their size: a boundary map is blurred by some pixels.
        seed: of selective search's order; see `propose`.
        edge_model: file of a structured-forest edge detector (OpenCV's `model.yml.gz`) for edge boxes, as in
            the paper. Default: gradients of the smoothed Lab image, thinned to ridges, which need no file.
        boundaries: `"hed"` (the HED network, of the extra `pretrained`) or `"color"` (gradients of the
            smoothed Lab image), for regions and edge boxes. Where HED gives fewer than 2000 regions, those of
            colours follow. Default: for regions HED where it is installed, else colour; for edge boxes what
            `edge_model` says.

    Raises:
        UsageError: if an argument is unknown, out of range, or not for this method.
        MissingExtraError: if OpenCV was installed without its contrib modules, or a library of the method is
            missing.
    """

    method: str = "selective-search"
    quality: bool = False
    max_side: int = 500
    seed: int = 0
    edge_model: str | None = None
    boundaries: str | None = None

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
        self._settle_boundaries()
        if self.method != "regions":
            ximgproc()

    def _settle_boundaries(self) -> None:
        if self.boundaries is not None:
            check_detector(self.boundaries)
            if self.method == "selective-search" or self.edge_model is not None:
                given = "edge_model" if self.edge_model is not None else f"method={self.method!r}"
                raise UsageError(
                    "Argument `boundaries` is for regions, and for edge boxes without edge_model. "
                    f"Received: {given}"
                )
        elif self.method == "regions":
            object.__setattr__(self, "boundaries", default_detector())

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Return the int32 `(N, 4)` boxes that `find` finds, those of regions each once; N may be 0."""
        return self.find(image).distinct_boxes()

    def find(self, image: NDArray[np.uint8]) -> Proposals:
        """Return the proposals of a uint8 `(H, W, 3)` RGB image, in its pixels; there may be none.

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
        least = _ENLARGED * max(size) if self.method == "regions" else max(size)
        side = min(self.max_side, least)
        image = resize_image(image, fitted_size(size, (side, side)))
        # Where HED sees few regions, in crowded or blurred images, colours see more.
        finds = [] if self.boundaries is None else [detector(self.boundaries), detector("color")]
        if self.method == "selective-search":
            found = selective_search(image, self.quality, self.seed)
        elif self.method == "edge-boxes":
            found = edge_boxes(image, self.edge_model, finds[0] if finds else None)
        else:
            found = regions(image, finds[:1] if self.boundaries == "color" else finds, _MOST_REGIONS)
        return found.resized((image.shape[0], image.shape[1]), size)


def find(
    image: NDArray[np.uint8], method: str = "regions", count: int | None = 2000, **options: Any
) -> Proposals:
    """Return the first `count` proposals (None: all) of an image, with their masks where the method has them.

    Args:
        image: uint8 `(H, W, 3)` RGB.
        method: one of `METHODS`.
        count: most proposals that are returned.
        **options: of `Proposer`: quality, max_side, seed, edge_model, boundaries.

    Example:
        >>> found = find(image)
        >>> found.boxes[0], found.mask(0)
    """
    _check_count(count)
    return Proposer(method=method, **options).find(image).first(count)


def _check_count(count: int | None) -> None:
    if count is not None and count < 1:
        raise UsageError(f"Argument `count` must be at least 1, or None for all. Received: count={count!r}")


def propose(
    image: NDArray[np.uint8], method: str = "selective-search", count: int | None = 50, **options: Any
) -> Boxes:
    """Return the first `count` boxes (None: all) that may hold an object; the same at every call.

    Edge boxes and regions come by falling score. Selective search has no score: as in its paper, a box's
    rank is its place in the hierarchy of regions, large ones first, times a random number; OpenCV draws that
    number anew at each call, so it is drawn here, from `seed`, with the order by area in place of the
    hierarchy.

    Args:
        image, method, count, options: see `find`.

    Returns:
        int32 `(N, 4)`, N <= count: `(y0, x0, y1, x1)`, the end exclusive, inside the image. A picture
        without any contrast has no edge boxes, and one selective-search box or region, itself.
    """
    _check_count(count)
    return Proposer(method=method, **options)(image)[:count]


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
    if boxes.ndim != 2 or boxes.shape[1] != 4 or (sides(boxes) <= 0).any():
        raise UsageError(
            "Argument `method` must give (N, 4) boxes (y0, x0, y1, x1) with y0 < y1 and x0 < x1. "
            f"Received: {boxes.dtype} {boxes.shape}"
        )
    return boxes
