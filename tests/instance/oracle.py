"""A runtime that finds bright blobs exactly: what a perfect network would say; and pictures of blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kseg.data.instances import Instances, stack
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
    """Bright discs (row, column, radius) on black, each an object."""
    image, masks = np.zeros((*size, 3), np.uint8), []
    y, x = np.mgrid[: size[0], : size[1]]
    for row, column, radius in circles:
        mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        image[mask] = 255
        masks.append(mask)
    return Blobs(
        name, image, stack(masks, [1] * len(masks), [index in crowd for index in range(len(masks))], size)
    )


class Oracle(OneOutput):
    """Says of each window where its blobs are; scores fall with their number."""

    name = "oracle"
    spec = SPEC

    def __init__(self, input_size: tuple[int, int] | None = None, most: int = 20) -> None:
        self.input_size, self.most, self.calls = input_size, most, 0

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        found = [self._of(image) for image in images]
        return {name: np.stack([row[name] for row in found]) for name in found[0]}

    def _of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        count, ids, stats, _ = cv2.connectedComponentsWithStats(
            (image[..., 0] > 0.5 * image.max()).astype(np.uint8)
        )
        said: dict[str, Any] = {
            "boxes": np.zeros((self.most, 4), np.float32),
            "scores": np.zeros(self.most, np.float32),
            "classes": np.zeros(self.most, np.float32),
            "masks": np.zeros((self.most, GRID, GRID), np.float32),
        }
        for row, index in enumerate(range(1, min(count, self.most + 1))):
            left, top, width, height, area = stats[index]
            if area == image.shape[0] * image.shape[1]:
                continue
            said["boxes"][row] = (top, left, top + height, left + width)
            said["scores"][row] = 0.99 - 0.01 * row
            said["classes"][row] = 1
            part = (ids[top : top + height, left : left + width] == index).astype(np.float32)
            said["masks"][row] = cv2.resize(part, (GRID, GRID), interpolation=cv2.INTER_LINEAR)
        return said

    def close(self) -> None:
        """Nothing is held."""
