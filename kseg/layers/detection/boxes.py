"""Boxes as tensors: overlap, the numbers that a network predicts of them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kseg.boxes import MOST_GROWTH

# What Fast R-CNN divides the numbers of a class's boxes by, so that each has a spread of about 1.
STANDARD_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


def sides(boxes: Any) -> tuple[Any, Any]:
    """Return heights and widths `(..., N)` of boxes `(..., N, 4)`; never below 0."""
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0), ops.maximum(boxes[..., 3] - boxes[..., 1], 0)


def overlaps(boxes: Any, others: Any, of: str = "union") -> Any:
    """Return by how much each box overlaps each other one.

    Args:
        boxes: `(..., N, 4)`.
        others: `(..., M, 4)`.
        of: what the common area is divided by: `"union"` (IoU), or `"first"`, the area of the box itself, as
            COCO judges boxes against crowds.

    Returns:
        `(..., N, M)` in 0..1; 0 where an area is 0.
    """
    one, other = boxes[..., :, None, :], others[..., None, :, :]
    height = ops.minimum(one[..., 2], other[..., 2]) - ops.maximum(one[..., 0], other[..., 0])
    width = ops.minimum(one[..., 3], other[..., 3]) - ops.maximum(one[..., 1], other[..., 1])
    common = ops.maximum(height, 0) * ops.maximum(width, 0)
    own = ops.multiply(*sides(boxes))[..., :, None]
    if of == "first":
        return common / ops.maximum(own, 1e-9)
    union = own + ops.multiply(*sides(others))[..., None, :] - common
    return common / ops.maximum(union, 1e-9)


def encode(boxes: Any, anchors: Any, deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Any:
    """Return what a network should predict for boxes (Girshick et al., R-CNN, CVPR 2014, appendix C).

    Args:
        boxes: `(..., 4)`; one without area gives finite numbers.
        anchors: `(..., 4)`, of positive sides.
        deviations: what the four numbers are divided by.

    Returns:
        `(..., 4)`: move of the middle in sides of the anchor (y, x), logarithm of the growth (height, width).
    """
    height, width = sides(anchors)
    own_height, own_width = sides(boxes)
    moved = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    numbers = ops.stack(
        [
            moved[..., 0] / height,
            moved[..., 1] / width,
            ops.log(ops.maximum(own_height, 1e-3) / height),
            ops.log(ops.maximum(own_width, 1e-3) / width),
        ],
        axis=-1,
    )
    return numbers / ops.convert_to_tensor(deviations, numbers.dtype)


def decode(numbers: Any, anchors: Any, deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Any:
    """Return the boxes that `encode`'s numbers mean; growth is bounded by `MOST_GROWTH`."""
    numbers = numbers * ops.convert_to_tensor(deviations, numbers.dtype)
    height, width = sides(anchors)
    middle_y = (anchors[..., 0] + anchors[..., 2]) / 2 + numbers[..., 0] * height
    middle_x = (anchors[..., 1] + anchors[..., 3]) / 2 + numbers[..., 1] * width
    half_height = ops.exp(ops.minimum(numbers[..., 2], MOST_GROWTH)) * height / 2
    half_width = ops.exp(ops.minimum(numbers[..., 3], MOST_GROWTH)) * width / 2
    return ops.stack(
        [middle_y - half_height, middle_x - half_width, middle_y + half_height, middle_x + half_width],
        axis=-1,
    )


def clipped_gradient(values: Any, limit: Any) -> Any:
    """Return the values; each number of their gradient is cut to -limit..limit."""

    @ops.custom_gradient
    def same(given: Any) -> tuple[Any, Any]:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            return ops.clip(arguments[0] if upstream is None else upstream, -limit, limit)

        return given, gradient

    return same(values)


def moved(
    numbers: Any,
    boxes: Any,
    height: Any,
    width: Any,
    deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    gradient: float | None = None,
) -> Any:
    """Return what `decode` gives, cut to an image of `height` x `width`.

    Args:
        gradient: None: no gradient passes. Otherwise it passes to boxes and numbers, but not to the numbers
            of a box that the image cuts, before or after; each of theirs is cut to `-gradient..gradient`, of
            the loss of its own image: `fit` learns from the mean of the images.
    """
    still, given = ops.stop_gradient(numbers), ops.stop_gradient(boxes)
    found = decode(still, given, deviations)
    if gradient is None:
        return clip(found, height, width)
    uncut = ops.logical_and(inside(given, height, width), inside(found, height, width))
    limit = gradient / ops.cast(ops.shape(numbers)[0], "float32")
    numbers = ops.where(uncut[..., None], clipped_gradient(numbers, limit), still)
    return clip(decode(numbers, boxes, deviations), height, width)


def inside(boxes: Any, height: Any, width: Any) -> Any:
    """Return which of boxes `(..., 4)` an image does not cut, bool `(...)`."""
    return ops.all(ops.equal(boxes, clip(boxes, height, width)), axis=-1)


def clip(boxes: Any, height: Any, width: Any) -> Any:
    """Return boxes `(..., 4)` cut to an image of `height` x `width` (numbers or scalar tensors)."""
    height, width = ops.cast(height, boxes.dtype), ops.cast(width, boxes.dtype)
    return ops.stack(
        [
            ops.clip(boxes[..., 0], 0, height),
            ops.clip(boxes[..., 1], 0, width),
            ops.clip(boxes[..., 2], 0, height),
            ops.clip(boxes[..., 3], 0, width),
        ],
        axis=-1,
    )
