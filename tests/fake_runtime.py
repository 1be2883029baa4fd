"""Runtimes that need no framework: what they answer can be said in one line of numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kseg.spec import Normalization, Spec

RAW = Normalization(mean=(0, 0, 0), std=(1, 1, 1))


def toy_spec(classes: int = 7, **fields: object) -> Spec:
    """Classes '0', '1', ... and a normalisation that changes nothing."""
    return Spec(classes=tuple(map(str, range(classes))), normalization=RAW, **fields)  # type: ignore[arg-type]


class Identity:
    """The class of a pixel is its red value: logits are 10 x one-hot."""

    name = "identity"

    def __init__(self, spec: Spec | None = None, input_size: tuple[int, int] | None = None) -> None:
        self.spec = spec or toy_spec()
        self.input_size = input_size
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert images.dtype == np.float32
        self.shapes.append(images.shape)
        if self.input_size is not None:
            assert images.shape[1:3] == self.input_size
        ids = np.rint(images[..., :1])
        return np.float32(10) * (ids == np.arange(self.spec.num_classes))

    def close(self) -> None:
        self.closed = True


class Smooth(Identity):
    """Logit c is `c * red / 100 - c * c`: smooth in the pixel, so that interpolation can be checked."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(images.shape)
        channel = np.arange(self.spec.num_classes, dtype=np.float32)
        return np.asarray(images[..., :1] / 100 * channel - channel**2, np.float32)


def picture(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """An RGB image whose pixels are the ids."""
    return np.repeat(ids.astype(np.uint8)[..., None], 3, axis=2)
