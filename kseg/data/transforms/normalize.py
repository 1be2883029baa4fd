"""The one place where pixels become network input. numpy only: a small board can import it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kseg.errors import UsageError
from kseg.spec import Normalization


def preprocess(image: NDArray[np.uint8], normalization: Normalization) -> NDArray[np.float32]:
    """Turn 8-bit RGB into network input: `(channels(image) - mean) / std`, in float32.

    Args:
        image: uint8 `(H, W, 3)` RGB, or a batch `(B, H, W, 3)`.
        normalization: channel order (`"bgr"` flips the channels), mean and std in 0-255 units.

    Returns:
        float32 array of the same shape.

    Raises:
        UsageError: if the image is not uint8 with three channels last.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise UsageError(
            "Argument `image` must be uint8 RGB of shape (H, W, 3) or (B, H, W, 3). "
            f"Received: {image.dtype} {image.shape}"
        )
    channels = image[..., ::-1] if normalization.order == "bgr" else image
    # Whole rows at once: broadcasting over an axis of three is several times slower.
    rows = channels.reshape(-1, image.shape[-2] * 3)
    mean = np.tile(np.asarray(normalization.mean, np.float32), image.shape[-2])
    std = np.tile(np.asarray(normalization.std, np.float32), image.shape[-2])
    result = np.subtract(rows, mean, dtype=np.float32)
    result /= std
    return result.reshape(image.shape)


def fill_color(normalization: Normalization) -> tuple[int, int, int]:
    """Return the 8-bit RGB colour that `preprocess` maps nearest to zero: what padding is filled with."""
    mean = normalization.mean[::-1] if normalization.order == "bgr" else normalization.mean
    red, green, blue = (int(min(max(round(value), 0), 255)) for value in mean)
    return red, green, blue
