"""Augmentation of image, mask and instances together: written once, one warp, one ignore id.

Coordinates are continuous with pixel centres at +0.5 (the half-pixel convention), so that an image
resampled bilinearly and a mask resampled to its nearest pixel stay aligned, and flips and integer
scales are exact. Needs numpy and OpenCV, neither TensorFlow nor Keras.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.data.transforms.joint import IMAGENET_MEAN, Color, Image, Joint, Mask, check_joint, filler
from kseg.errors import UsageError

# OpenCV warps these element types; every other integer type of the same width is viewed as one of them.
_CARRIERS = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}
_LUMA = np.array([0.299, 0.587, 0.114])
_DRAWS = 11


def _warp_ids(ids: Mask, matrix: NDArray, size: tuple[int, int], fill: int) -> Mask:
    """Sample integer `ids` (H, W) at their nearest pixel; `fill` outside; the type is kept."""
    carrier = _CARRIERS[ids.dtype.itemsize]
    border = float(filler(fill, ids.dtype).view(carrier))
    warped = cv2.warpAffine(
        np.ascontiguousarray(ids).view(carrier),
        matrix,
        (size[1], size[0]),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(warped).view(ids.dtype)


def _warp_layer(layer: Mask, matrix: NDArray, size: tuple[int, int], like: np.dtype) -> Mask:
    """Sample instance ids as `_warp_ids` samples a mask of type `like`, 0 outside.

    OpenCV 5 rounds ties (one pixel in a thousand, when turned) another way for 32 bits than for 8 and 16.
    Seen as four channels of 8 bits, ids of 32 come from the pixels that the mask's come from.
    """
    if layer.dtype.itemsize != 4 or like.itemsize > 2:
        return _warp_ids(layer, matrix, size, 0)
    parts = np.ascontiguousarray(layer).view(np.uint8).reshape(*layer.shape, 4)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(parts, matrix, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped).reshape(size[0], size[1] * 4).view(layer.dtype)


def _fixed_or_range(name: str, value: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(value[0]), float(value[1]))
    if not 0 < low <= high:
        raise UsageError(
            f"Argument `{name}` must be (low, high) with 0 < low <= high. Received: {name}={value!r}"
        )
    return low, high


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random flip, scale, crop, rotation and colour of one sample, as ONE warp.

    `augment(image, mask, instances, rng=rng)` draws everything from the given generator, so the same
    generator state gives the same sample. Image pixels are sampled bilinearly, ids at their nearest pixel;
    where the warp looks outside the image it puts `fill`, `ignore_id` and instance 0.

    Args:
        crop: `(height, width)` of the result; None keeps each image's own size.
        flip: probability of a left-right flip.
        flip_vertical: probability of an upside-down flip (microscopy, aerial images).
        scale: `(low, high)`: objects grow by a factor drawn log-uniformly from this range. Below 1/2,
            bilinear sampling starts to skip pixels.
        rotation: largest rotation in degrees, to either side.
        color: strength of the colour change in 0-1. Brightness, contrast and saturation are multiplied by
            factors in `1 ± color`, each channel besides by `1 ± color / 3` (white balance).
        ignore_id: id put into the mask where there is no image.
        fill: RGB colour (0-255) put into the image there.

    Example:
        >>> augment = Augment(crop=(240, 320), rotation=5)
        >>> image, mask, _ = augment(image, mask, rng=np.random.default_rng(0))
    """

    crop: tuple[int, int] | None = None
    flip: float = 0.5
    flip_vertical: float = 0.0
    scale: tuple[float, float] = (2 / 3, 1.5)
    rotation: float = 0.0
    color: float = 0.3
    ignore_id: int = 255
    fill: Color = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if self.crop is not None:
            crop = (int(self.crop[0]), int(self.crop[1]))
            if min(crop) < 1:
                raise UsageError(
                    f"Argument `crop` must be (height, width), both positive. Received: {self.crop!r}"
                )
            object.__setattr__(self, "crop", crop)
        object.__setattr__(self, "scale", _fixed_or_range("scale", self.scale))
        for name, high in (("flip", 1.0), ("flip_vertical", 1.0), ("color", 1.0), ("rotation", 180.0)):
            value = float(getattr(self, name))
            if not 0 <= value <= high:
                raise UsageError(f"Argument `{name}` must be in 0-{high:g}. Received: {name}={value!r}")

    def __call__(
        self, image: Image, mask: Mask, instances: Mask | None = None, *, rng: np.random.Generator
    ) -> Joint:
        """Return the augmented sample.

        Args:
            image: uint8 `(H, W, 3)`.
            mask: integer `(H, W)`; its type is kept.
            instances: integer `(layers, H, W)` with 0 = no object, or None.
            rng: source of all randomness; always advanced by the same number of draws.

        Returns:
            `(image, mask, instances)` of size `crop`. May be the inputs themselves when nothing changed.

        Raises:
            UsageError: if shapes or types do not fit, or `ignore_id` does not fit the mask's type.
        """
        check_joint(image, mask, instances)
        draws = rng.random(_DRAWS)
        size = self.crop or (image.shape[0], image.shape[1])
        matrix = self._matrix(image.shape[:2], size, draws)
        if self.color:
            image = _recolor(image, self.color, draws[6:])
        if size == image.shape[:2] and np.array_equal(matrix, np.eye(3)):
            return image, mask, instances
        rows, columns, local = _window(matrix, image.shape[:2], size)
        warped = cv2.warpAffine(
            image[rows, columns],
            local,
            (size[1], size[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.fill,
        )
        mask = _warp_ids(mask[rows, columns], local, size, self.ignore_id)
        if instances is not None:
            layers = [_warp_layer(layer[rows, columns], local, size, mask.dtype) for layer in instances]
            instances = np.stack(layers) if layers else np.zeros((0, *size), instances.dtype)
        return np.asarray(warped), mask, instances

    def _matrix(self, source: tuple[int, ...], size: tuple[int, int], draws: NDArray) -> NDArray[np.float64]:
        """Return the 3x3 matrix from a result's pixel (x, y, 1) to the source's pixel."""
        low, high = self.scale
        factor = math.exp(math.log(low) + draws[0] * (math.log(high) - math.log(low)))
        angle = math.radians(self.rotation * (2 * draws[1] - 1))
        mirror = (-1 if draws[2] < self.flip else 1, -1 if draws[3] < self.flip_vertical else 1)
        # The window that the crop covers in the source, placed uniformly (also when it is the larger one).
        center = []
        for have, want, draw in zip(source[::-1], size[::-1], draws[4:6], strict=True):
            room = have - want / factor
            if factor == 1 and not angle:  # whole pixels: a plain crop must not blur
                offset = math.copysign(math.floor(draw * (abs(room) + 1)), room)
            else:
                offset = draw * room
            center.append(offset + want / factor / 2)
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        turn = np.array([[cos * mirror[0], sin * mirror[1]], [-sin * mirror[0], cos * mirror[1]]])
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        # Centres are at +0.5 on both sides: source = turn (x + 0.5 - size / 2) + center - 0.5.
        matrix[:2, 2] = turn @ ((1 - size[1]) / 2, (1 - size[0]) / 2) + center - 0.5
        return matrix


def _window(
    matrix: NDArray, source: tuple[int, ...], size: tuple[int, int]
) -> tuple[slice, slice, NDArray[np.float64]]:
    """Return the rows and columns of the source that the warp reads, and the 2x3 matrix into that part.

    OpenCV warps sources of up to 32,767 pixels a side; the part that a crop reads is small.
    """
    corners = np.array([[0, size[1], 0, size[1]], [0, 0, size[0], size[0]], [1, 1, 1, 1]]) - 0.5 * np.array(
        [[1], [1], [0]]
    )
    reached = matrix[:2] @ corners
    spans = []
    for axis, length in ((1, source[0]), (0, source[1])):
        start = min(max(math.floor(reached[axis].min()) - 1, 0), length - 1)
        stop = max(min(math.ceil(reached[axis].max()) + 2, length), start + 1)
        spans.append(slice(start, stop))
    local = matrix[:2].copy()
    local[:, 2] -= (spans[1].start, spans[0].start)
    return spans[0], spans[1], local


def _recolor(image: Image, strength: float, draws: NDArray) -> Image:
    """Brightness, contrast, saturation and white balance as one 3x4 matrix on RGB."""
    brightness, contrast, saturation = 1 + strength * (2 * draws[:3] - 1)
    balance = 1 + strength / 3 * (2 * draws[3:5] - 1)  # red and blue against green
    mix = saturation * np.eye(3) + (1 - saturation) * _LUMA
    mix = contrast * brightness * (mix @ np.diag((balance[0], 1.0, balance[1])))
    offset = np.full((3, 1), 127.5 * (1 - contrast))
    return np.asarray(cv2.transform(image, np.hstack([mix, offset]).astype(np.float32)))
