"""What a check sees of one image and its mask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kseg.data.instances import LayersError
from kseg.data.pictures.images import ColorMaskError, LossyMaskError, read_framed
from kseg.data.pictures.orientation import Frame, OrientationError
from kseg.data.pictures.palette import UnknownColorError
from kseg.errors import DataError

# Of an image that cannot be read: whatever its truth is, it is looked at as it lies.
UNKNOWN_FRAME = Frame((0, 0))


@dataclass
class Facts:
    """What was seen of one image.

    Attributes:
        split: its split.
        where: its path below the data folder, for messages.
        mask_where: path of its mask file; empty where it has none of its own.
        size: (height, width) of the image; None when unreadable.
        digest: of its pixels.
        counts: id -> pixels of its mask; None when there is no usable mask.
        faults: (code, path, text) of each thing wrong with it.
        colors: packed colour -> pixels of a colour mask.
        unknown: packed colours that the palette does not know -> pixels.
        instances: number of instances.
    """

    split: str
    where: str
    mask_where: str = ""
    size: tuple[int, int] | None = None
    digest: str | None = None
    counts: dict[int, int] | None = None
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    colors: dict[int, int] = field(default_factory=dict)
    unknown: dict[int, int] = field(default_factory=dict)
    instances: int = 0

    def fault(self, code: str, path: str, text: str = "") -> None:
        """Note something wrong with a file."""
        self.faults.append((code, path, text))

    def look_at_image(self, path: Path) -> Frame | None:
        """Decode the image: its size and the digest of its pixels. Return how it lies; None: unreadable."""
        try:
            pixels, frame = read_framed(path)
        except DataError as error:
            self.fault("unreadable_image", self.where, str(error))
            return None
        self.size = (pixels.shape[0], pixels.shape[1])
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=12)
        digest.update(pixels.data)
        self.digest = digest.hexdigest()
        return frame

    def mask_failed(self, error: DataError, where: str) -> None:
        """Note why a mask could not be read."""
        if isinstance(error, ColorMaskError):
            self.colors = error.colors
            self.fault("color_mask", where, str(error))
        elif isinstance(error, UnknownColorError):
            self.unknown = {entry.code: entry.count for entry in error.unknown}
            self.fault("unknown_color", where, str(error))
        elif isinstance(error, OrientationError):
            self.fault("orientation", where, str(error))
        elif isinstance(error, LayersError):
            self.fault("overlapping_instances", where, str(error))
        else:
            self.fault(
                "lossy_mask" if isinstance(error, LossyMaskError) else "unreadable_mask", where, str(error)
            )


def size_text(mask: Sequence[int], image: Sequence[int]) -> str:
    """Say two different sizes, and whether one is the other turned."""
    text = f"mask {mask[0]}x{mask[1]}, image {image[0]}x{image[1]} (height x width)"
    if tuple(mask[:2]) == tuple(image[1::-1]):
        return f"{text}: one seems to be the other turned, and no EXIF tag says so"
    return text
