"""What a network of stars learns from boxes and masks, and by which losses: a number for each image."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import whole
from kseg.layers.detection.masks import grid_weights
from kseg.layers.detection.rows import filled_up, take
from kseg.layers.detection.stars import directions, places

# How many cells from its border an object is told to be deep; deeper is as deep.
DEEPEST = 24
# A ray is followed in so many steps, up to the border of the object's box.
STEPS = 40
# Cells of an object that is drawn from half as often as a large one: a crop leaves many slivers.
SLIVER = 10.0
# Objects of an image that are painted at once.
AT_ONCE = 32


def painted(
    true_boxes: Any, true_masks: Any, objects: Any, height: Any, width: Any, stride: int
) -> tuple[Any, Any]:
    """Return which object has a cell, and how much of it objects cover.

    It costs what the last row that is an object of any image of the batch costs, however many rows there are.

    Args:
        true_boxes: `(B, M, 4)`.
        true_masks: `(B, M, m, m)`, 0 or 1, on grids over the boxes.
        objects: `(B, M)`: 1 in rows that are one.
        stride: pixels of the image per cell.

    Returns:
        int32 `(B, height, width)`: 1 + the row of the object that covers half of the cell, 0 for none; of
        two the later row: the smaller object. And float32 `(B, height, width)` in 0..1: the share of the
        cell's pixels that lie in objects. Cells are too large to be in or out: borders would move by half a
        pixel.
    """
    side = true_masks.shape[-1]
    number = 1 + ops.arange(ops.shape(objects)[1], dtype="int32")
    rows = ops.cast(objects > 0, "int32") * number
    used = ops.max(rows)
    boxes, masks, rows = (
        ops.pad(part, ((0, 0), (0, AT_ONCE)) + ((0, 0),) * (len(part.shape) - 2))
        for part in (true_boxes, true_masks, rows)
    )
    batch = ops.shape(objects)[0]

    def weights(box: Any, axis: int, count: Any) -> Any:
        pixels = ops.arange(count * stride, dtype="float32") + 0.5
        of_pixels = grid_weights(pixels, box[..., axis], box[..., axis + 2], side)
        return ops.mean(ops.reshape(of_pixels, (batch, AT_ONCE, count, stride, side)), axis=3)

    def step(first: Any, owner: Any, share: Any) -> tuple[Any, Any, Any]:
        box = ops.slice(boxes, (0, first, 0), (batch, AT_ONCE, 4))
        mask = ops.slice(masks, (0, first, 0, 0), (batch, AT_ONCE, side, side))
        row = ops.slice(rows, (0, first), (batch, AT_ONCE))
        mask = ops.cast(mask, "float32") * ops.cast(row > 0, "float32")[..., None, None]
        part = ops.matmul(
            ops.matmul(weights(box, 0, height), mask), ops.swapaxes(weights(box, 1, width), -1, -2)
        )
        # A hair less than half: sums of quarters are not exact.
        found = ops.max(ops.where(part > 0.499, row[..., None, None], 0), axis=1)
        return first + AT_ONCE, ops.maximum(owner, found), ops.minimum(share + ops.sum(part, axis=1), 1.0)

    start = (
        ops.zeros((), "int32"),
        ops.zeros((batch, height, width), "int32"),
        ops.zeros((batch, height, width)),
    )
    return ops.while_loop(lambda first, *_: first < used, step, start)[1:]


def covered(boxes: Any, real: Any, height: Any, width: Any, stride: int) -> Any:
    """Return float32 `(B, height, width)`: 1 where the middle of a cell lies in one of the real boxes."""
    middles = ((ops.arange(count, dtype="float32") + 0.5) * stride for count in (height, width))
    rows, columns = (
        ops.cast((at >= boxes[..., axis, None]) & (at < boxes[..., axis + 2, None]), "float32")
        for axis, at in enumerate(middles)
    )
    hits = ops.matmul(ops.swapaxes(rows * real[..., None], -1, -2), columns)
    return ops.minimum(hits, 1.0)


def depths(owner: Any) -> Any:
    """Return float32 `(B, h, w)`: cells to the nearest one of another owner, up to `DEEPEST`; 0 for none.

    What lies beyond the map is as its border: an object that the map cuts is deepest there.
    """
    own = ops.cast(owner, "float32")[..., None]
    other = ops.not_equal(_highest(own), -_highest(-own))
    depth = ops.cast(own > 0, "float32")
    inner = depth * ops.cast(ops.logical_not(other), "float32")
    for _ in range(DEEPEST - 1):
        depth = depth + inner
        inner = -_highest(-inner)
    return depth[..., 0]


def _highest(x: Any) -> Any:
    return ops.max_pool(x, 3, 1, padding="same", data_format="channels_last")


def ray_distances(centres: Any, boxes: Any, index: Any, true_masks: Any, rays: int) -> Any:
    """Return how far objects reach from points in them, along rays, to where they end first.

    Args:
        centres: `(B, S, 2)` in pixels, each in its object.
        boxes: `(B, S, 4)`, those of the objects.
        index: int32 `(B, S)`, rows of the objects.
        true_masks: `(B, M, m, m)`, 0 or 1.
        rays: see `kseg.layers.detection.stars.directions`.

    Returns:
        float32 `(B, S, rays)`, at least half a pixel.
    """
    side = true_masks.shape[-1]
    step = directions(rays)
    longest: Any = None
    for axis in (0, 1):
        ahead = ops.where(step[:, axis] > 0, boxes[..., axis + 2, None], boxes[..., axis, None])
        to_end = (ahead - centres[..., axis, None]) * step[:, axis] / ops.maximum(step[:, axis] ** 2, 1e-9)
        to_end = ops.where(abs(step[:, axis]) > 1e-5, to_end, 1e9)
        longest = to_end if longest is None else ops.minimum(longest, to_end)
    shares = (ops.arange(STEPS, dtype="float32") + 0.5) / STEPS
    cells = []
    for axis in (0, 1):
        low, high = boxes[..., axis, None, None], boxes[..., axis + 2, None, None]
        at = centres[..., axis, None, None] + (longest * step[:, axis])[..., None] * shares
        cell = ops.floor((at - low) / ops.maximum(high - low, 1e-6) * side)
        cells.append(ops.cast(ops.clip(cell, 0, side - 1), "int32"))
    place = (index[..., None, None] * side + cells[0]) * side + cells[1]
    batch, count = ops.shape(index)
    flat = ops.reshape(true_masks, (batch, -1))
    found = ops.take_along_axis(flat, ops.reshape(place, (batch, -1)), axis=1)
    outside = ops.equal(ops.reshape(found, (batch, count, rays, STEPS)), 0)
    left = ops.max(ops.where(outside, STEPS - ops.arange(STEPS), 0), axis=-1)
    return ops.maximum(longest * (1 - ops.cast(left, "float32") / STEPS), 0.5)


@keras.saving.register_keras_serializable(package="kseg")
class StarTargets(keras.layers.Layer):
    """What each cell of a map should say, and a sample of cells in objects with their rays.

    Each object has nearly the same chance to be drawn from, whatever its size; its middle more than its rim.

    Args:
        rays: of a star.
        stride: pixels of the image per cell.
        count: cells that are drawn from each image.
        seed: of drawing.

    Returns:
        `objects` float32 `(B, h, w)`: the distance from the object's border by the largest of the object, 0
        outside; `inside` float32 `(B, h, w)`: the share of a cell in objects; `counts` float32 `(B, h, w)`: 0
        in crowds; `index` int32 `(B, count)` of drawn cells, `rows` int32 `(B, count)` of their objects,
        `weights` `(B, count)`: what `objects` says there, 0 where there are too few; and `distances` `(B,
        count, rays)` in pixels. For features `(B, h, w, C)` and the truth of `kseg.instance.targets`. No
        gradient passes.
    """

    def __init__(self, rays: int, stride: int, count: int = 192, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.rays = whole(rays, "StarTargets", "rays", minimum=3)
        self.stride = whole(stride, "StarTargets", "stride")
        self.count = whole(count, "StarTargets", "count")
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def compute_output_spec(
        self, features: Any, true_boxes: Any, true_masks: Any, objects: Any, crowds: Any
    ) -> tuple:
        cells, drawn = features.shape[:3], (features.shape[0], self.count)
        return (
            keras.KerasTensor(cells),
            keras.KerasTensor(cells),
            keras.KerasTensor(cells),
            keras.KerasTensor(drawn, "int32"),
            keras.KerasTensor(drawn, "int32"),
            keras.KerasTensor(drawn),
            keras.KerasTensor((*drawn, self.rays)),
        )

    def call(self, features: Any, true_boxes: Any, true_masks: Any, objects: Any, crowds: Any) -> tuple:
        batch, height, width, _ = ops.shape(features)
        owner, inside = painted(true_boxes, true_masks, objects, height, width, self.stride)
        most, area = self._by_object(owner, ops.shape(true_boxes)[1])
        depth = depths(owner)
        size = area(ops.ones_like(depth))
        share = depth / ops.maximum(most(depth), 1.0)
        grid = places(height, width, self.stride)
        counts = 1 - covered(true_boxes, crowds, height, width, self.stride) * ops.cast(owner == 0, "float32")
        index, drawn = self._draw(ops.reshape(share / (size + SLIVER), (batch, -1)))
        row = ops.maximum(take(ops.reshape(owner, (batch, -1)), index) - 1, 0)
        centres = take(ops.broadcast_to(grid[None], (batch, height * width, 2)), index)
        distances = ray_distances(centres, take(true_boxes, row), row, true_masks, self.rays)
        weights = take(ops.reshape(share, (batch, -1)), index) * drawn
        return share, inside, counts, index, row, weights, distances

    def _by_object(self, owner: Any, rows: Any) -> tuple[Any, Any]:
        """Return what gives each cell the largest value, and the sum of values, of its object."""
        batch = ops.shape(owner)[0]
        first = ops.cast(ops.arange(batch), "int32")[:, None, None] * (rows + 1)
        segments = ops.reshape(owner + first, (-1,))

        def spread(reduce: Any) -> Any:
            def of(values: Any) -> Any:
                found = reduce(ops.reshape(values, (-1,)), segments, num_segments=batch * (rows + 1))
                return ops.reshape(ops.take(found, segments), ops.shape(owner))

            return of

        return spread(ops.segment_max), spread(ops.segment_sum)

    def _draw(self, chances: Any) -> tuple[Any, Any]:
        """Return indices int32 `(B, count)` drawn by chances `(B, N)`, and 0 where there are too few."""
        chances = filled_up(chances, self.count)
        draw = keras.random.uniform(ops.shape(chances), 1e-6, 1.0, seed=self._generator)
        # The exponential races of Efraimidis and Spirakis: the largest log(u) / chance.
        keys = ops.where(chances > 0, ops.log(draw) / ops.maximum(chances, 1e-9), -1e30)
        best, index = ops.top_k(keys, self.count)
        real = ops.cast(best > -1e29, "float32")
        return ops.cast(index, "int32") * ops.cast(real, "int32"), real

    def get_config(self) -> dict[str, Any]:
        own = {"rays": self.rays, "stride": self.stride, "count": self.count, "seed": self.seed}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="kseg")
class CellLoss(keras.layers.Layer):
    """Binary cross-entropy of each cell that counts, by the number of cells.

    Returns:
        float32 `(B,)`; for logits `(B, h, w, 1)`, targets in 0..1 and which cells count, `(B, h, w)` each.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, logits: Any, targets: Any, counts: Any) -> Any:
        return keras.KerasTensor((logits.shape[0],))

    def call(self, logits: Any, targets: Any, counts: Any) -> Any:
        entropy = ops.binary_crossentropy(targets, logits[..., 0], from_logits=True)
        return ops.mean(entropy * counts, axis=(1, 2))


@keras.saving.register_keras_serializable(package="kseg")
class RayLoss(keras.layers.Layer):
    """Negative logarithm of the overlap along the rays (Xie et al., PolarMask, CVPR 2020, section 3.4).

    Returns:
        float32 `(B,)`, the weighted mean over the cells; for predicted distances `(B, h, w, R)` in pixels,
        and `index` `(B, S)`, `weights` `(B, S)` and `distances` `(B, S, R)` of `StarTargets`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, found: Any, index: Any, weights: Any, distances: Any) -> Any:
        return keras.KerasTensor((found.shape[0],))

    def call(self, found: Any, index: Any, weights: Any, distances: Any) -> Any:
        batch, _, _, rays = ops.shape(found)
        own = take(ops.reshape(found, (batch, -1, rays)), index)
        union = ops.sum(ops.maximum(own, distances), axis=-1)
        common = ops.sum(ops.minimum(own, distances), axis=-1)
        loss = ops.log(union) - ops.log(common)
        return ops.sum(loss * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1e-3)


@keras.saving.register_keras_serializable(package="kseg")
class CellClassLoss(keras.layers.Layer):
    """Cross-entropy of the classes of cells that were drawn.

    Returns:
        float32 `(B,)`; for logits `(B, h, w, C)` of classes 1 to C, `index`, `rows` and `weights` of
        `StarTargets`, and the true classes `(B, M)`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})

    def compute_output_spec(self, logits: Any, *others: Any) -> Any:
        return keras.KerasTensor((logits.shape[0],))

    def call(self, logits: Any, index: Any, rows: Any, weights: Any, true_classes: Any) -> Any:
        batch, _, _, classes = ops.shape(logits)
        own = take(ops.reshape(logits, (batch, -1, classes)), index)
        wanted = ops.maximum(take(ops.cast(true_classes, "int32"), rows) - 1, 0)
        entropy = ops.sparse_categorical_crossentropy(wanted, own, from_logits=True)
        return ops.sum(entropy * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1e-3)
