"""What joint transforms share: `transform(image, mask, instances) -> (image, mask, instances)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.data.sample import Sample
from kseg.errors import UsageError

Image = NDArray[np.uint8]
Mask = NDArray[np.integer]
Joint = tuple[Image, Mask, Mask | None]
Color = tuple[int, int, int]

IMAGENET_MEAN: Color = (124, 116, 104)


def transformed(sample: Sample, transform: Callable[..., Any], **options: Any) -> Sample:
    """Return a sample whose image, mask and instances went through one transform.

    Args:
        sample: its instances, if any, are transformed too.
        transform: `(image, mask, **options) -> (image, mask, ...)`, with instances
            `(image, mask, layers, **options) -> (image, mask, layers)`.
        **options: for the transform.

    Raises:
        UsageError: if the transform leaves instances out.
    """
    found = sample.instances
    layers = () if found is None else (found.layers,)
    made = transform(sample.image, sample.mask, *layers, **options)
    if len(made) < 2 + len(layers):
        raise UsageError(
            "A transform of samples with instances must give (image, mask, layers). "
            f"Received: {len(made)} values from {getattr(transform, '__name__', type(transform).__name__)}"
        )
    return Sample(sample.name, made[0], made[1], None if found is None else found.replace(made[2]))


def check_joint(image: Image, mask: Mask | None, instances: Mask | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            f"Argument `image` must be uint8 of shape (H, W, 3). Received: {image.dtype} {image.shape}"
        )
    size = image.shape[:2]
    if mask is not None and (mask.shape != size or not np.issubdtype(mask.dtype, np.integer)):
        raise UsageError(
            f"Argument `mask` must hold integers, of the image's size {size}. "
            f"Received: {mask.dtype} {mask.shape}"
        )
    if instances is not None and (
        instances.ndim != 3 or instances.shape[1:] != size or not np.issubdtype(instances.dtype, np.integer)
    ):
        raise UsageError(
            f"Argument `instances` must hold integers, of shape (layers, {size[0]}, {size[1]}). "
            f"Received: {instances.dtype} {instances.shape}"
        )


def filler(value: int, dtype: np.dtype) -> NDArray:
    """Return `value` as a 0-d array of `dtype`, or say that it does not fit."""
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise UsageError(
            f"The ignore id {value} does not fit a mask of type {dtype} ({limits.min}-{limits.max}). "
            "Give the mask as int32 or choose another ignore id"
        )
    return np.array(value, dtype)
