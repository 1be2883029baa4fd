"""What a refiner is, and what it is given."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kseg.errors import UsageError
from kseg.inference.distributions import Floats

Image = NDArray[np.uint8]


class Refiner(Protocol):
    """Changes the scores of one image by looking at the image; it never sees the truth.

    A refiner that was made for certain classes carries their `Spec` as `.spec`, one that holds something
    open has `.close()`; `Refined` uses both where they are there.
    """

    def __call__(self, image: Image, logits: Floats) -> Floats:
        """Return float32 `(H, W, C)` scores, whose argmax is the refined map.

        Args:
            image: uint8 `(H, W, 3)` RGB.
            logits: float32 `(H, W, C)`: of the network, or the scores of the refiner before. Their softmax
                is the class distribution of a pixel.
        """


def check_sizes(image: Image, logits: Floats) -> None:
    """Make sure that image and logits are of one size.

    Raises:
        UsageError: if they are not, with both shapes.
    """
    if logits.ndim != 3 or image.ndim != 3 or logits.shape[:2] != image.shape[:2]:
        raise UsageError(
            "A refiner needs an image (H, W, 3) and logits (H, W, classes) of the same size. "
            f"Received: image {image.shape}, logits {logits.shape}"
        )
