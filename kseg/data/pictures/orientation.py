"""EXIF orientation: how an image lies in its file, and which way its truth lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kseg.errors import DataError

UPRIGHT = 1
_SWAPS = 5  # from this orientation on, height and width change places
Drawn = Literal["as_shown", "as_stored"]
REMEDY = (
    'Say which: "mask_orientation": "as_shown" or "as_stored" {where}; or save the images turned and '
    "without the tag"
)


class OrientationError(DataError):
    """An image is turned by its EXIF tag, and nothing tells whether its truth is too."""


@dataclass(frozen=True)
class Frame:
    """How a picture lies in its file.

    Args:
        stored: (height, width) of the pixels in the file.
        orientation: EXIF orientation 1-8; 1 also where there is none.
        tagged: whether the file has that tag.
    """

    stored: tuple[int, int]
    orientation: int = UPRIGHT
    tagged: bool = False

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) once the orientation is applied."""
        height, width = self.stored
        return (width, height) if self.orientation >= _SWAPS else (height, width)


def turn(pixels: NDArray[Any], orientation: int, axis: int = 0) -> NDArray[Any]:
    """Return a view of `pixels` as EXIF `orientation` says that they are shown.

    Args:
        pixels: any array; rows are along `axis`, columns along the next.
        orientation: 1-8, as in TIFF 6.0, tag 274.
        axis: the axis of rows.
    """
    rows, columns = axis, axis + 1
    if orientation in (2, 3, 7, 8):
        pixels = np.flip(pixels, columns)
    if orientation in (3, 4, 6, 7):
        pixels = np.flip(pixels, rows)
    return np.swapaxes(pixels, rows, columns) if orientation >= _SWAPS else pixels


def truth_orientation(
    size: tuple[int, int], image: Frame, drawn: Drawn | None, name: str, where: str = "in classes.json"
) -> int:
    """Return the orientation to apply to a truth that has no tag of its own, so that it fits its image.

    Args:
        size: (height, width) of the truth as it lies in its file.
        image: of the image.
        drawn: what the data says about it; None: sizes decide.
        name: of the truth, for the message.
        where: the remedy could be written to.

    Raises:
        OrientationError: if sizes do not tell.
    """
    if image.orientation == UPRIGHT or drawn == "as_shown":
        return UPRIGHT
    if drawn == "as_stored":
        return image.orientation
    if size == image.shown == image.stored:
        raise OrientationError(
            f"{name}: the image has EXIF orientation {image.orientation}, its truth has none, and both are "
            f"{size[0]}x{size[1]} (height x width) turned or not, so nobody can tell whether the truth was "
            f"drawn on the picture as shown or as stored. {REMEDY.format(where=where)}"
        )
    # A size that fits neither way is a mismatch, which the caller reports.
    return image.orientation if size == image.stored else UPRIGHT
