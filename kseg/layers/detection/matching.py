"""What boxes are learned as: matched with the true ones, and sampled in a fixed number."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import Range, whole
from kseg.layers.detection.boxes import overlaps
from kseg.layers.detection.rows import filled_up

# Easy: background that may be left out, because it overlaps hardly any object.
POSITIVE, NEGATIVE, NEITHER, EASY = 1, 0, -1, -2
# A box that lies in a crowd by more than this share of itself is neither right nor wrong.
IN_CROWD = 0.5


def match(
    boxes: Any,
    truth: Any,
    real: Any,
    *,
    high: float,
    low: float,
    best_of_each: bool = False,
    crowd: Any = None,
) -> tuple[Any, Any, Any]:
    """Match boxes with the true ones of their image (Ren et al., Faster R-CNN, NIPS 2015, section 3.1.2).

    No gradient passes.

    Args:
        boxes: `(B, N, 4)`, or `(1, N, 4)` for all images.
        truth: `(B, M, 4)`, rows that are no box included.
        real: `(B, M)`, 1 for true boxes and 0 for the other rows.
        high: IoU from which a box is positive.
        low: IoU below which it is negative; between both it is neither.
        best_of_each: the box (or boxes) that overlaps a true one most is positive, too, if it overlaps at
            all.
        crowd: `(B, M)`, 1 for rows that are a crowd (with `real` 0); boxes that lie in one are not negative.

    Returns:
        `labels` int32 `(B, N)`: `POSITIVE`, `NEGATIVE` or `NEITHER`; `index` int32 `(B, N)`: the true box
        that overlaps it most, of the others the first; `overlap` float32 `(B, N)`: their IoU.
    """
    boxes, truth = ops.stop_gradient(boxes), ops.stop_gradient(truth)
    found = overlaps(boxes, truth) * real[:, None, :]
    overlap, index = ops.max(found, axis=-1), ops.argmax(found, axis=-1)
    positive, negative = overlap >= high, overlap < low
    if best_of_each:
        best = ops.max(found, axis=1, keepdims=True)
        positive = ops.logical_or(positive, ops.any(ops.logical_and(found >= best, best > 0), axis=-1))
    if crowd is not None:
        inside = ops.max(overlaps(boxes, truth, of="first") * crowd[:, None, :], axis=-1) > IN_CROWD
        negative = ops.logical_and(negative, ops.logical_not(inside))
    labels = ops.where(positive, POSITIVE, ops.where(negative, NEGATIVE, NEITHER))
    return ops.cast(labels, "int32"), ops.cast(index, "int32"), overlap


@keras.saving.register_keras_serializable(package="kseg")
class Sample(keras.layers.Layer):
    """Draws a fixed number of positive and negative boxes of each image at random.

    Args:
        count: boxes that are drawn.
        positive_share: at most this share of them is positive; negative ones fill up.
        seed: of drawing.
        easy_share: at most this share of what is not positive is easy; 0: none, and negative ones fill up
            alone.

    Returns:
        `indices` int32 `(B, count)`, positive ones first, and `real` float32 `(B, count)`: 0 where an image
        has too few. For labels `(B, N)` of `match`, or `EASY`.
    """

    def __init__(
        self, count: int, positive_share: float = 0.5, seed: int = 0, easy_share: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.count = whole(count, "Sample", "count")
        self.positive_share = float(Range(0, 1).check(positive_share, "positive_share", "Sample"))
        self.easy_share = float(Range(0, 1).check(easy_share, "easy_share", "Sample"))
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def compute_output_spec(self, labels: Any) -> tuple:
        shape = (labels.shape[0], self.count)
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor(shape, "float32")

    def call(self, labels: Any) -> tuple[Any, Any]:
        labels = filled_up(labels, self.count, NEITHER)
        draw = keras.random.uniform(ops.shape(labels), 0.25, 0.75, seed=self._generator)
        positive, negative, easy = (
            ops.cast(ops.equal(labels, label), "float32") for label in (POSITIVE, NEGATIVE, EASY)
        )
        positive = self._at_most(positive, draw, int(self.count * self.positive_share))
        if self.easy_share:
            left = self.count - ops.sum(positive, axis=1, keepdims=True)
            few = ops.floor(self.easy_share * left + 0.5)
            negative = self._at_most(negative, draw, left - few) + self._at_most(easy, draw, few)
        keys, indices = ops.top_k(positive * (1 + draw) + negative * draw, self.count)
        real = ops.cast(keys > 0, "float32")
        # Rows that fill up point at the first box.
        return ops.cast(indices, "int32") * ops.cast(real, "int32"), real

    def _at_most(self, wanted: Any, draw: Any, most: Any) -> Any:
        """Return the wanted boxes of the largest draws: so many, or as `(B, 1)` a number for each image."""
        best = ops.top_k(wanted * draw, self.count)[0]
        most = ops.zeros_like(best[:, :1]) + most
        # With fewer than `most` wanted boxes the last key is 0, and all are taken.
        last = ops.take_along_axis(best, ops.cast(ops.maximum(most - 1, 0), "int32"), axis=1)
        return wanted * ops.cast(ops.logical_and(draw >= last, most > 0), "float32")

    def get_config(self) -> dict[str, Any]:
        own = {
            "count": self.count,
            "positive_share": self.positive_share,
            "seed": self.seed,
            "easy_share": self.easy_share,
        }
        return {**super().get_config(), **own}
