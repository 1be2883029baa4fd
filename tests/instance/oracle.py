"""A runtime that finds bright blobs exactly: what a perfect network would say; and pictures of blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kseg.data.instances import Instances, stack
from kseg.data.run_lengths import Masks
from kseg.spec import Spec
from kseg.tasks import OneOutput

GRID = 28
SPEC = Spec(classes=("background", "blob"), task="instance", input_size=(64, 64))


@dataclass
class Blobs:
    """A sample."""

    name: str
    image: np.ndarray
    instances: Instances


def blobs(
    name: str, size: tuple[int, int], circles: list[tuple[int, int, int]], crowd: tuple[int, ...] = ()
) -> Blobs:
    """Discs (row, column, radius) on black, each an object, and of a brightness of its own."""
    image, masks = np.zeros((*size, 3), np.uint8), []
    y, x = np.mgrid[: size[0], : size[1]]
    for row, column, radius in circles:
        mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        image[mask] = 255 - len(masks) % 50
        masks.append(mask)
    crowds = [index in crowd for index in range(len(masks))]
    return Blobs(name, image, stack(Masks.from_masks(masks, size), [1] * len(masks), crowds))


class Oracle(OneOutput):
    """Says of each window where its blobs are; scores fall with their number.

    Args:
        input_size: the only one.
        most: blobs of a window.
        shades: tell blobs that touch apart, by their brightness; for images that are not resized.
        early: blobs end so many pixels inside of the window's borders, as those of real networks may.
    """

    name = "oracle"
    spec = SPEC

    def __init__(
        self, input_size: tuple[int, int] | None = None, most: int = 20, shades: bool = False, early: int = 0
    ) -> None:
        self.input_size, self.most, self.calls = input_size, most, 0
        self.shades, self.early = shades, early

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        found = [self._of(image) for image in images]
        return {name: np.stack([row[name] for row in found]) for name in found[0]}

    def _of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        said: dict[str, Any] = {
            "boxes": np.zeros((self.most, 4), np.float32),
            "scores": np.zeros(self.most, np.float32),
            "classes": np.zeros(self.most, np.float32),
            "masks": np.zeros((self.most, GRID, GRID), np.float32),
        }
        for row, mask in enumerate(self._masks(image[..., 0])[: self.most]):
            left, top, width, height = cv2.boundingRect(mask)
            said["boxes"][row] = (top, left, top + height, left + width)
            said["scores"][row] = 0.99 - 0.01 * row
            said["classes"][row] = 1
            part = mask[top : top + height, left : left + width].astype(np.float32)
            said["masks"][row] = cv2.resize(part, (GRID, GRID), interpolation=cv2.INTER_LINEAR)
        return said

    def _masks(self, red: np.ndarray) -> list[np.ndarray]:
        """Blobs that do not touch, or regions of one brightness; what covers the window is left out."""
        bright = red > 0.5 * red.max()
        inner = np.zeros_like(bright)
        inner[self.early : red.shape[0] - self.early, self.early : red.shape[1] - self.early] = True
        bright &= inner
        found = []
        for part in (
            [bright & (red == value) for value in np.unique(red[bright])] if self.shades else [bright]
        ):
            count, ids = cv2.connectedComponents(part.astype(np.uint8))
            found += [(ids == index).astype(np.uint8) for index in range(1, count)]
        return [mask for mask in found if mask.sum() < mask.size]

    def close(self) -> None:
        """Nothing is held."""
