"""Non-maximum suppression in a graph: fixed shapes, no custom operator, on every runtime."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kseg.checks import Range, whole
from kseg.errors import UsageError
from kseg.layers.detection.boxes import overlaps
from kseg.layers.detection.rows import filled_up, take

# All pairs of the boxes of an image are compared: 400 MB of numbers.
MOST_BOXES = 10_000


def kept(boxes: Any, scores: Any, groups: Any, threshold: float, steps: int | None = None) -> Any:
    """Return which boxes greedy suppression keeps, for boxes that are sorted by falling score.

    A box is kept if no kept box before it overlaps it by more than `threshold`. Of that rule the answer is
    the only fixed point, and each step from all-kept settles at least one more link of each chain of
    suppressions.

    Args:
        boxes: `(..., N, 4)`, the best first.
        groups: `(..., N)` whole numbers; a box is suppressed by those of its own group only. None: by all.
        scores: `(..., N)`; a box whose score is not above 0 is kept by nobody and suppresses nothing.
        threshold: IoU above which the later box goes.
        steps: how many steps are written into the graph (exact for chains up to that length: a handful in
            practice);
            None: until nothing changes, by a loop of the graph.


    Returns:
        float32 `(..., N)`: 1 or 0.
    """
    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    count = scores.shape[-1]
    before = ops.tril(ops.ones((count, count), "float32"), -1)
    suppresses = ops.cast(overlaps(boxes, boxes) > threshold, "float32") * before
    if groups is not None:
        suppresses = suppresses * ops.cast(ops.equal(groups[..., :, None], groups[..., None, :]), "float32")
    real = ops.cast(scores > 0, "float32")

    def step(keep: Any) -> Any:
        hits = ops.squeeze(ops.matmul(suppresses, keep[..., None]), -1)
        return real * ops.cast(hits < 0.5, "float32")

    if steps is not None:
        keep = real
        for _ in range(steps):
            keep = step(keep)
        return keep
    keep, _ = ops.while_loop(
        lambda keep, last: ops.any(ops.not_equal(keep, last)),
        lambda keep, last: (step(keep), keep),
        (step(real), real),
        maximum_iterations=count,
    )
    return keep


def suppressed(
    boxes: Any,
    scores: Any,
    groups: Any,
    threshold: float,
    keep: int,
    before: int | None = None,
    steps: int | None = None,
) -> tuple[Any, Any]:
    """Return the indices that stay and which are real; see `NonMaximumSuppression`."""
    if groups is None:
        groups = ops.zeros_like(scores)
    if scores.shape[-1] is None:
        most = int(before or 0)
        boxes, scores, groups = filled_up(boxes, most), filled_up(scores, most, -1.0), filled_up(groups, most)
    count = scores.shape[-1] or int(before or 0)
    looked_at = count if before is None else min(before, count)
    best, order = ops.top_k(ops.stop_gradient(scores), looked_at)
    stays = kept(take(boxes, order), best, take(groups, order), threshold, steps)
    # Those that stay first, each group in the order of its scores: no two keys are equal.
    places = ops.arange(looked_at, dtype="float32")
    keys = filled_up(stays * (2 * looked_at) - places, keep, -4.0 * looked_at)
    order, stays = filled_up(order, keep), filled_up(stays, keep)
    _, first = ops.top_k(keys, keep)
    real = take(stays, first)
    # Rows that fill up point at the first box: at one that came in.
    indices = take(order, first) * ops.cast(real, "int32")
    return indices, real


@keras.saving.register_keras_serializable(package="kseg")
class NonMaximumSuppression(keras.layers.Layer):
    """The best boxes that do not overlap each other, per image (Felzenszwalb et al., PAMI 2010, section 5).

    Equal to the sequential algorithm; boxes of equal score go by their place. No gradient passes.

    Args:
        threshold: IoU above which the box of the lower score goes, in 0..1.
        keep: boxes that come out.
        before: the best so many are looked at; None: all.
        steps: see `kept`; None: exact whatever the boxes.

    Returns:
        `indices` int32 `(B, keep)` into the boxes that came in, and `real` float32 `(B, keep)`: 0 in rows
        that fill up, which come last. For boxes `(B, N, 4)`, scores `(B, N)` (not above 0 in rows that are
        no box) and, where boxes of several classes or levels shall not suppress each other, their groups
        `(B, N)`.
    """

    def __init__(
        self, threshold: float, keep: int, before: int | None = None, steps: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.threshold = float(Range(0, 1).check(threshold, "threshold", "NonMaximumSuppression"))
        self.keep = whole(keep, "NonMaximumSuppression", "keep")
        self.before = None if before is None else whole(before, "NonMaximumSuppression", "before")
        self.steps = None if steps is None else whole(steps, "NonMaximumSuppression", "steps")
        if before is not None and before < keep:
            raise UsageError(
                f"NonMaximumSuppression cannot keep more boxes than it looks at. Received: keep={keep}, "
                f"before={before}"
            )

    def compute_output_spec(self, boxes: Any, scores: Any, groups: Any = None) -> tuple:
        self._check(scores.shape[-1])
        shape = (boxes.shape[0], self.keep)
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor(shape, "float32")

    def call(self, boxes: Any, scores: Any, groups: Any = None) -> tuple[Any, Any]:
        self._check(scores.shape[-1])
        return suppressed(boxes, scores, groups, self.threshold, self.keep, self.before, self.steps)

    def _check(self, count: int | None) -> None:
        if count is None and self.before is None:
            raise UsageError("NonMaximumSuppression of an unknown number of boxes needs `before`")

    def get_config(self) -> dict[str, Any]:
        own = {"threshold": self.threshold, "keep": self.keep, "before": self.before, "steps": self.steps}
        return {**super().get_config(), **own}
