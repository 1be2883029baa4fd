"""Shapes to pixels, each by the rule of the tool that drew it, so that a map equals the tool's own export.

labelme: Pillow's `ImageDraw` (labelme/utils/shape.py, `shape_to_mask`). CVAT and COCO: pycocotools.
Supervisely: OpenCV's `fillPoly` on whole coordinates, holes cut out afterwards (geometry/polygon.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kseg.data.coco import masks as coco_masks
from kseg.errors import DataError

Point = tuple[float, float]
Mask = NDArray[np.bool_]


def check_points(points: Sequence[Point], least: int, size: tuple[int, int], where: str) -> None:
    """Refuse points that are too few, no numbers, or farther outside the image than it is large.

    The last kind is no drawing, and some rasterisers take memory by the distance.
    """
    if len(points) < least:
        raise DataError(f"{where}: field `points`: {len(points)} points, at least {least} make this shape")
    far = max(size)
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y) and -far <= x <= 2 * far and -far <= y <= 2 * far):
            raise DataError(
                f"{where}: field `points`: ({x:g}, {y:g}) lies far outside the image "
                f"({size[1]} wide, {size[0]} high)"
            )


def pillow(kind: str, points: Sequence[Point], size: tuple[int, int]) -> Mask:
    """Draw a labelme polygon, rectangle (two corners) or circle (centre, point on it): bool (H, W)."""
    canvas = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon":
        draw.polygon([tuple(point) for point in points], outline=1, fill=1)
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = points
        draw.rectangle([(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))], outline=1, fill=1)
    else:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        draw.ellipse([(x - radius, y - radius), (x + radius, y + radius)], outline=1, fill=1)
    return np.array(canvas, bool)


def coco(points: Sequence[Point], size: tuple[int, int]) -> Mask:
    """Draw one polygon by pycocotools' rule: bool (H, W)."""
    return coco_masks.decode([[value for point in points for value in point]], size)


def filled(exterior: Sequence[Point], holes: Sequence[Sequence[Point]], size: tuple[int, int]) -> Mask:
    """Draw a polygon with holes by OpenCV's rule, coordinates rounded: bool (H, W)."""
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [np.rint(np.array(exterior)).astype(np.int32)], 1)
    if holes:
        cv2.fillPoly(canvas, [np.rint(np.array(hole)).astype(np.int32) for hole in holes], 0)
    return canvas.astype(bool)


def turned(points: Sequence[Point], center: Point, degrees: float) -> list[Point]:
    """Return points turned about `center`, clockwise as seen (y points down)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (
            center[0] + (x - center[0]) * cosine - (y - center[1]) * sine,
            center[1] + (x - center[0]) * sine + (y - center[1]) * cosine,
        )
        for x, y in points
    ]


def ellipse(center: Point, radii: Point, count: int = 720) -> list[Point]:
    """Return an ellipse as a polygon of `count` points (as CVAT's export does)."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [
        (center[0] + radii[0] * float(cosine), center[1] + radii[1] * float(sine))
        for cosine, sine in zip(np.cos(angles), np.sin(angles), strict=True)
    ]


def place(canvas: NDArray[np.integer], mask: Mask, left: int, top: int, value: int, where: str) -> None:
    """Paint `mask` with its upper left corner at (left, top).

    Raises:
        DataError: if it does not lie inside the image.
    """
    height, width = mask.shape
    if left < 0 or top < 0 or top + height > canvas.shape[0] or left + width > canvas.shape[1]:
        raise DataError(
            f"{where}: a mask {width} wide, {height} high at ({left}, {top}) does not fit into the image "
            f"({canvas.shape[1]} wide, {canvas.shape[0]} high)"
        )
    canvas[top : top + height, left : left + width][mask] = value
