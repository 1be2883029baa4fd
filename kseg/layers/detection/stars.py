"""Objects as stars: a centre and how far the border is along rays of equal angles (Schmidt et al., StarDist,
MICCAI 2018).

A star is judged by its gauge, which is linear between two rays: no angle is computed, so every runtime has
it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kseg.checks import Range, whole
from kseg.layers.detection.boxes import clip
from kseg.layers.detection.masks import grid
from kseg.layers.detection.rows import filled_up, take
from kseg.layers.detection.suppression import suppressed


def directions(rays: int) -> NDArray[np.float32]:
    """Return `(rays, 2)`: unit steps (y, x), ray 0 to the right, then clockwise as the image is seen."""
    angles = 2 * np.pi * np.arange(rays) / rays
    return np.stack([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def places(height: Any, width: Any, stride: int) -> Any:
    """Return `(height * width, 2)`: the middles (y, x) of the cells of a map, in pixels of the image."""
    y = (ops.arange(height, dtype="float32") + 0.5) * stride
    x = (ops.arange(width, dtype="float32") + 0.5) * stride
    grid = ops.stack([y[:, None] + 0 * x[None, :], x[None, :] + 0 * y[:, None]], axis=-1)
    return ops.reshape(grid, (-1, 2))


def gauge(y: Any, x: Any, distances: Any) -> Any:
    """Return how far out points lie in stars: 0 at the centre, 1 on the border, 2 twice as far.

    Between two rays the border is the straight line between their ends.

    Args:
        y, x: of the points from the centre, that broadcast to `(..., P)`.
        distances: of the border, `(..., R)`, above 0.

    Returns:
        `(..., P)`.
    """
    rays = distances.shape[-1]
    step = directions(rays)
    last, following = np.roll(step, 1, axis=0), np.roll(step, -1, axis=0)
    y, x = y[..., None], x[..., None]
    # Twice the area between point and ray, of the ray on either side: both are positive between them only.
    before = y * last[:, 1] - x * last[:, 0]
    behind = x * following[:, 0] - y * following[:, 1]
    share = ops.maximum(ops.minimum(before, behind), 0)
    weights = 1 / (distances * float(np.sin(2 * np.pi / rays)))
    return ops.squeeze(ops.matmul(share, weights[..., None]), -1)


@keras.saving.register_keras_serializable(package="kseg")
class StarDetections(keras.layers.Layer):
    """The stars of the surest places, each object once.

    A place goes on if no neighbour is surer. Of the best so many, boxes around the stars are thinned.

    Args:
        keep: detections that come out.
        stride: pixels of the image per cell of the map.
        threshold: IoU above which the box of the lower score and the same class goes.
        least_score: detections below go.
        before: the best so many places are looked at.
        steps: see `NonMaximumSuppression`.

    Returns:
        `boxes` float32 `(B, keep, 4)`, `scores` float32 `(B, keep)` in falling order, `classes` float32 `(B,
        keep)`, 1 and up, 0 in rows that fill up, `centres` `(B, keep, 2)` and `distances` `(B, keep, R)`.
        For the image `(B, H, W, 3)`, probabilities `(B, h, w, 1)`, distances `(B, h, w, R)` in pixels, and
        the probabilities of the classes `(B, h, w, C)` (None for one class).
    """

    def __init__(
        self,
        keep: int,
        stride: int,
        threshold: float = 0.4,
        least_score: float = 0.05,
        before: int = 1000,
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.keep = whole(keep, "StarDetections", "keep")
        self.stride = whole(stride, "StarDetections", "stride")
        self.threshold = float(Range(0, 1).check(threshold, "threshold", "StarDetections"))
        self.least_score, self.before, self.steps = least_score, before, steps

    def compute_output_spec(self, image: Any, objects: Any, distances: Any, classes: Any = None) -> tuple:
        shape = (image.shape[0], self.keep)
        return (
            keras.KerasTensor((*shape, 4)),
            keras.KerasTensor(shape),
            keras.KerasTensor(shape),
            keras.KerasTensor((*shape, 2)),
            keras.KerasTensor((*shape, distances.shape[-1])),
        )

    def call(self, image: Any, objects: Any, distances: Any, classes: Any = None) -> tuple:
        _, height, width, _ = ops.shape(image)
        batch, rows, columns, rays = ops.shape(distances)
        highest = ops.max_pool(objects, 3, 1, padding="same", data_format="channels_last")
        scores = ops.where(ops.logical_and(objects >= highest, objects >= self.least_score), objects, 0.0)
        scores = ops.reshape(scores, (batch, -1))
        # Where nobody knows the size before the graph runs, so many rows are added that there are enough.
        best, order = ops.top_k(filled_up(scores, self.before), self.before)
        order = ops.where(best > 0, order, 0)
        far = take(ops.reshape(distances, (batch, -1, rays)), order)
        own = take(
            ops.broadcast_to(places(rows, columns, self.stride)[None], (batch, rows * columns, 2)), order
        )
        kinds = ops.ones_like(best)
        if classes is not None:
            shares = take(ops.reshape(classes, (batch, -1, classes.shape[-1])), order)
            share, kind = ops.top_k(shares, 1)
            best = best * share[..., 0]
            kinds = 1 + ops.cast(kind[..., 0], "float32")
        boxes = clip(_around(own, far), height, width)
        index, kept = suppressed(boxes, best, kinds, self.threshold, self.keep, steps=self.steps)
        real = kept[..., None]
        return (
            take(boxes, index) * real,
            take(best, index) * kept,
            take(kinds, index) * kept,
            take(own, index) * real,
            # Rows that fill up are stars, too, so that nothing is divided by 0.
            take(far, index) * real + (1 - real),
        )

    def get_config(self) -> dict[str, Any]:
        own = ("keep", "stride", "threshold", "least_score", "before", "steps")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _around(centres: Any, distances: Any) -> Any:
    """Return the boxes `(B, N, 4)` around stars."""
    step = directions(distances.shape[-1])
    y = centres[..., :1] + distances * step[:, 0]
    x = centres[..., 1:] + distances * step[:, 1]
    corners = [ops.min(y, axis=-1), ops.min(x, axis=-1), ops.max(y, axis=-1), ops.max(x, axis=-1)]
    return ops.stack(corners, axis=-1)


@keras.saving.register_keras_serializable(package="kseg")
class StarMasks(keras.layers.Layer):
    """Stars as masks on a grid over their boxes.

    Args:
        size: rows and columns of the grid.

    Returns:
        float32 `(B, N, size, size)` in 0..1: 1 in the centre, 0.5 on the border, falling evenly; for boxes
        `(B, N, 4)`, centres `(B, N, 2)` and distances `(B, N, R)`.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = whole(size, "StarMasks", "size")

    def compute_output_spec(self, boxes: Any, centres: Any, distances: Any) -> Any:
        return keras.KerasTensor((*boxes.shape[:2], self.size, self.size))

    def call(self, boxes: Any, centres: Any, distances: Any) -> Any:
        y, x = (grid(boxes, axis, self.size) - centres[..., axis, None] for axis in (0, 1))
        out = gauge(y[..., :, None], x[..., None, :], distances[..., None, :])
        return ops.maximum(1 - out / 2, 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}
