"""A region as the network sees it: its box with some context, warped to a square, and its mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg.boxes import sides
from kseg.data.proposals import Proposals
from kseg.data.transforms.normalize import preprocess
from kseg.spec import Normalization

Floats = NDArray[np.float32]
Size = tuple[int, int]
# Of a crop of 227 pixels, 16 on each side lie around the box.
_SIDE, _CONTEXT = 227, 16


def with_context(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Return boxes `(..., 4)` with context: 8.2 % of each side on both ends. They may leave the image."""
    found = np.asarray(boxes, np.float64)
    more = sides(found) * (_CONTEXT / (_SIDE - 2 * _CONTEXT))
    return np.concatenate([found[..., :2] - more, found[..., 2:] + more], axis=-1)


def warped(values: NDArray[Any], box: NDArray[Any], size: Size, *, nearest: bool, outside: float) -> Any:
    """Return what lies under a box, warped to `size` (height, width) whatever its proportions.

    Args:
        values: float32 or uint8 `(H, W)` or `(H, W, C)`.
        box: in pixels of `values`, fractions allowed.
        size: of the result.
        nearest: whether a pixel is taken, instead of a mix of four.
        outside: value of what lies outside of `values`.
    """
    down, across = sides(np.asarray(box, np.float64)) / size
    # Centres of pixels lie at halves in boxes, at whole numbers in OpenCV.
    back = np.array([[across, 0, box[1] + across / 2 - 0.5], [0, down, box[0] + down / 2 - 0.5]])
    kind = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    across_first, border = (size[1], size[0]), cv2.BORDER_CONSTANT
    found = cv2.warpAffine(
        values, back, across_first, flags=kind, borderMode=border, borderValue=(outside,) * 4
    )
    return np.asarray(found)


class Cropper:
    """Crops of one image: float32 `(size, 4)`, normalised pixels (0 outside the image), then the mask.

    Args:
        image: uint8 `(H, W, 3)` RGB.
        normalization: of the network.
        size: of a crop, (height, width).
    """

    def __init__(self, image: NDArray[np.uint8], normalization: Normalization, size: Size) -> None:
        self._pixels = preprocess(image, normalization)
        self._size = size

    def of_mask(self, mask: NDArray[np.bool_], box: NDArray[Any]) -> Floats:
        """Return the crop of a mask `(H, W)` and its box."""
        wide = with_context(box)
        inside = warped(mask.astype(np.uint8), wide, self._size, nearest=True, outside=0)
        return self._joined(wide, inside)

    def of_proposals(self, found: Proposals, chosen: Iterable[int]) -> Floats:
        """Return the crops of some proposals, `(N, size, 4)`; of one without a mask its box is the mask."""
        crops = [self._of_proposal(found, index) for index in chosen]
        return np.stack(crops) if crops else np.zeros((0, *self._size, 4), np.float32)

    def _of_proposal(self, found: Proposals, index: int) -> Floats:
        wide = with_context(found.boxes[index])
        if found.superpixels is None or found.members is None:
            mask = np.zeros(self._pixels.shape[:2], np.uint8)
            y0, x0, y1, x1 = found.boxes[index]
            mask[y0:y1, x0:x1] = 1
            return self._joined(wide, warped(mask, wide, self._size, nearest=True, outside=0))
        ids = warped(found.superpixels.astype(np.float32), wide, self._size, nearest=True, outside=-1)
        # -1, outside of the image, is the last: in no region.
        return self._joined(wide, np.append(found.members[index], False)[ids.astype(np.int64)])

    def _joined(self, wide: NDArray[np.float64], mask: NDArray[Any]) -> Floats:
        crop = np.empty((*self._size, 4), np.float32)
        crop[..., :3] = warped(self._pixels, wide, self._size, nearest=False, outside=0)
        crop[..., 3] = mask
        return crop


def in_batches(crops: Callable[[range], Floats], count: int, batch: int) -> Iterator[tuple[Floats, int]]:
    """Yield the crops 0 to `count - 1` in batches `(batch, size, 4)`, and how many of each are real.

    Zeros fill up the last: compilers compile once for one size.

    Args:
        crops: gives the crops of some numbers, `(N, size, 4)`.
        count: how many there are.
        batch: how many the network is given at once.
    """
    for start in range(0, count, batch):
        found = crops(range(start, min(start + batch, count)))
        yield (
            np.concatenate([found, np.zeros((batch - len(found), *found.shape[1:]), np.float32)]),
            len(found),
        )
