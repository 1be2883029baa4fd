"""Resizing of image, mask and instances by the half-pixel convention. Needs numpy and OpenCV only."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from kseg.data.transforms.joint import IMAGENET_MEAN, Color, Image, Joint, Mask, check_joint, filler
from kseg.errors import UsageError


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize uint8 `(H, W, 3)` to `size` = (height, width): area-averaged down, bilinear up, half-pixel."""
    if image.shape[:2] == tuple(size):
        return image
    shrinking = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method))


def resize_mask(ids: Mask, size: tuple[int, int]) -> Mask:
    """Resize integer ids `(..., H, W)` to `size` by nearest pixel centre; the type is kept.

    The pixel under the result's centre, as torchvision's `NEAREST_EXACT` takes it, Pillow's `NEAREST` and
    OpenCV's `INTER_NEAREST_EXACT`. Where the centre lies between two pixels, as in an exact halving, all take
    the lower right one, half a pixel from where `resize_image` averages (at other factors the last two let
    rounding decide). OpenCV's `INTER_NEAREST` and torchvision's `NEAREST` are something else: they look from
    pixels' corners.
    """
    height, width = ids.shape[-2:]
    if (height, width) == tuple(size):
        return ids
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.intp)
    return ids[..., rows[:, None], columns]


def fitted_size(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (height, width) of the source's aspect ratio inside `size`, each at least 1."""
    factor = min(size[0] / source[0], size[1] / source[1])
    return (
        min(max(round(source[0] * factor), 1), size[0]),
        min(max(round(source[1] * factor), 1), size[1]),
    )


@dataclass(frozen=True)
class Resize:
    """Bring a sample to one size, by the rule of `Spec.resize`; nothing is random.

    Args:
        size: `(height, width)` of the result.
        rule: `"stretch"` resizes both sides; `"fit"` keeps the aspect ratio and pads bottom/right;
            `"none"` changes no pixel: small images are padded bottom/right, of large ones the centre is kept.
        ignore_id: id put into the mask where there is no image.
        fill: RGB colour (0-255) put into the image there.
    """

    size: tuple[int, int]
    rule: str = "none"
    ignore_id: int = 255
    fill: Color = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if self.rule not in ("none", "stretch", "fit"):
            raise UsageError(
                f"Argument `rule` must be 'none', 'stretch' or 'fit'. Received: rule={self.rule!r}"
            )
        size = (int(self.size[0]), int(self.size[1]))
        if min(size) < 1:
            raise UsageError(
                f"Argument `size` must be (height, width), both positive. Received: {self.size!r}"
            )
        object.__setattr__(self, "size", size)

    def __call__(self, image: Image, mask: Mask, instances: Mask | None = None) -> Joint:
        """Return `(image, mask, instances)` of `size`; see `Augment.__call__` for shapes and errors."""
        check_joint(image, mask, instances)
        have = (image.shape[0], image.shape[1])
        if self.rule != "none":
            target = self.size if self.rule == "stretch" else fitted_size(have, self.size)
            image, mask = resize_image(image, target), resize_mask(mask, target)
            instances = None if instances is None else resize_mask(instances, target)
        else:
            top, left = (max(have[axis] - self.size[axis], 0) // 2 for axis in (0, 1))
            rows, columns = slice(top, top + self.size[0]), slice(left, left + self.size[1])
            image, mask = image[rows, columns], mask[rows, columns]
            instances = None if instances is None else instances[:, rows, columns]
        bottom, right = self.size[0] - image.shape[0], self.size[1] - image.shape[1]
        if not bottom and not right:
            return image, mask, instances
        canvas = np.empty((*self.size, 3), np.uint8)
        canvas[:] = self.fill
        canvas[: image.shape[0], : image.shape[1]] = image
        border = ((0, bottom), (0, right))
        mask = np.pad(mask, border, constant_values=filler(self.ignore_id, mask.dtype))
        if instances is not None:
            instances = np.pad(instances, ((0, 0), *border))
        return canvas, mask, instances
