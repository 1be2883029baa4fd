"""Features of segments: masked maps of a trained network, max-pooled on an elastic grid.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kseg.data.transforms.normalize import preprocess
from kseg.data.transforms.resize import fitted_size, resize_image
from kseg.errors import UsageError
from kseg.inference.keras_runtime import KerasRuntime
from kseg.segments.labels import Labels
from kseg.segments.tree import SegmentTree
from kseg.semantic.refine.scores import Floats, Image
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

# A multiple of every stride that networks have.
_PROBE = 256


class FeatureMaps:
    """The maps of a network's inner layer for whole images of any size.

    Args:
        extractor: image -> maps, both NHWC, with open height and width.
        spec: of the network: says how images are resized and normalised.
        stride: pixels per position of the maps; default: measured by one call.

    Raises:
        UsageError: if the network has a fixed size, or its maps are not at a whole stride.
    """

    def __init__(self, extractor: keras.Model, spec: Spec, stride: int | None = None) -> None:
        self.runtime = KerasRuntime(extractor, spec)
        self.spec = spec
        if self.runtime.input_size is not None:
            raise UsageError(
                "Segment features need a network that takes images of any size: input_shape=(None, None, 3). "
                f"Received: one for {self.runtime.input_size[0]}x{self.runtime.input_size[1]}"
            )
        self.stride = self._measured() if stride is None else stride

    def _measured(self) -> int:
        maps = self.runtime(np.zeros((1, _PROBE, _PROBE, 3), np.float32))
        height, width = maps.shape[1:3]
        if height != width or _PROBE % height:
            raise UsageError(
                f"Segment features need maps at a whole stride. Received: one that makes {height}x{width} of "
                f"{_PROBE}x{_PROBE}; choose another layer"
            )
        return int(_PROBE // height)

    def __call__(self, image: Image) -> tuple[Floats, tuple[float, float]]:
        """Return float32 maps `(h, w, D)` and how many image pixels one of their positions is high and wide.

        Position 0 begins at the image's first pixel; positions beyond the image lie on the network's padding.

        Args:
            image: uint8 `(H, W, 3)` RGB; resized first where the Spec's rule says so.
        """
        size = (image.shape[0], image.shape[1])
        shown = size
        if self.spec.resize != "none" and self.spec.input_size is not None:
            full = self.spec.input_size
            shown = full if self.spec.resize == "stretch" else fitted_size(size, full)
        pixels = preprocess(resize_image(image, shown)[None], self.spec.normalization)
        pitch = (self.stride * size[0] / shown[0], self.stride * size[1] / shown[1])
        return self.runtime(pixels)[0], pitch

    def close(self) -> None:
        """Free the network."""
        self.runtime.close()


class SegmentPooling:
    """Pools the maps of one image over the segments of its tree.

    The bounding box of a segment is cut into `grid` x `grid` cells; a cell holds the maximum over the
    segment's own positions in it, 0 where it has none. A box of fewer positions than cells repeats them.

    Args:
        maps: float32 `(h, w, D)`.
        pitch: image pixels per position, down and across.
        labels: superpixel ids `(H, W)`.
        tree: over these superpixels.
        grid: cells per side.
    """

    def __init__(
        self, maps: Floats, pitch: tuple[float, float], labels: Labels, tree: SegmentTree, grid: int
    ) -> None:
        self.grid = grid
        self._width = maps.shape[1]
        self._values = maps.reshape(-1, maps.shape[-1])
        positions, leaves = _positions(maps.shape[:2], pitch, labels)
        order, first, last = tree.leaf_order()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        # In the order of the leaves every node is one run of positions.
        self._positions = positions[np.argsort(rank[leaves], kind="stable")]
        ends = np.concatenate([[0], np.cumsum(np.bincount(rank[leaves], minlength=tree.leaves))])
        self._first, self._last = ends[first], ends[last]

    @property
    def length(self) -> int:
        """Numbers per segment, `grid * grid * D`."""
        return self.grid**2 * self._values.shape[1]

    def __call__(self, nodes: NDArray[np.intp]) -> Floats:
        """Return float32 `(len(nodes), grid * grid * D)`."""
        pooled = np.empty((len(nodes), self.length), np.float32)
        for row, node in zip(pooled, nodes, strict=True):
            row[:] = self._pooled(self._positions[self._first[node] : self._last[node]]).ravel()
        return pooled

    def _pooled(self, positions: NDArray[np.intp]) -> Floats:
        rows, columns = np.divmod(positions, self._width)
        row_cells, height = _cells(rows, self.grid)
        column_cells, width = _cells(columns, self.grid)
        cells = row_cells * width + column_cells
        order = np.argsort(cells, kind="stable")
        ordered = cells[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        result = np.zeros((height * width, self._values.shape[1]), np.float32)
        result[ordered[starts]] = np.maximum.reduceat(self._values[positions[order]], starts, axis=0)
        steps = np.arange(self.grid)
        box = result.reshape(height, width, -1)
        return box[steps * height // self.grid][:, steps * width // self.grid]


def _cells(places: NDArray[np.intp], grid: int) -> tuple[NDArray[np.intp], int]:
    """Return the cell of each place along one axis of the bounding box, and how many cells there are."""
    first = places.min()
    length = int(places.max() - first + 1)
    count = min(grid, length)
    return (places - first) * count // length, count


def _positions(
    shape: tuple[int, ...], pitch: tuple[float, float], labels: Labels
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return flat positions of the maps and the superpixel of each, by the pixel at their middle.

    A superpixel that holds no such pixel gets the position nearest to its centroid, so each has at least one.
    """
    middles = []
    for count, step, side in zip(shape, pitch, labels.shape, strict=True):
        pixels = ((np.arange(count) + 0.5) * step).astype(np.intp)
        pixels[0] = min(pixels[0], side - 1)
        middles.append(pixels[pixels < side])
    down, across = middles
    found = labels[np.ix_(down, across)]
    positions = np.arange(len(down))[:, None] * shape[1] + np.arange(len(across))
    sizes = np.bincount(labels.ravel())
    missing = np.flatnonzero(np.bincount(found.ravel(), minlength=len(sizes)) == 0)
    nearest = []
    for axis, (places, step) in enumerate(zip(middles, pitch, strict=True)):
        coordinates = np.broadcast_to(np.expand_dims(np.arange(labels.shape[axis]), 1 - axis), labels.shape)
        centroids = np.bincount(labels.ravel(), weights=coordinates.ravel())[missing] / sizes[missing]
        nearest.append(np.minimum((centroids / step).astype(np.intp), len(places) - 1))
    return (
        np.concatenate([positions.ravel(), nearest[0] * shape[1] + nearest[1]]),
        np.concatenate([found.ravel(), missing]),
    )
