"""What may be given as an image, and the one form it is brought into."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kseg.data.pictures.images import read_image
from kseg.errors import UsageError

Picture = NDArray[np.uint8] | str | os.PathLike[str]


def several(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Tell one image from several."""
    if isinstance(images, str | os.PathLike):
        return [images]
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return images


def as_image(picture: Picture) -> NDArray[np.uint8]:
    """Return uint8 `(H, W, 3)` RGB from a path or an array.

    Raises:
        UsageError: if an array is not 8-bit RGB, with what to do about it.
        DataError: if a file is missing or cannot be read as an image.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(picture)
    image = np.asarray(picture)
    received = f"Received: {image.dtype} {image.shape}"
    if image.dtype != np.uint8:
        hint = ""
        if np.issubdtype(image.dtype, np.floating):
            hint = " For values in 0-1 pass (image * 255).round().astype('uint8')."
        elif image.dtype == np.uint16:
            hint = " For 16-bit values pass (image // 257).astype('uint8')."
        raise UsageError(
            "An image must be uint8 RGB, 0-255, not yet normalised: kseg normalises by the Spec."
            f"{hint} {received}"
        )
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise UsageError(
            "An image must have three channels. For grey pass np.repeat(grey.reshape(h, w, 1), 3, axis=2). "
            + received
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = " Drop the alpha channel: image[..., :3]." if image.ndim == 3 and image.shape[2] == 4 else ""
        raise UsageError(f"An image must be (H, W, 3) RGB with at least one pixel.{hint} {received}")
    return image
