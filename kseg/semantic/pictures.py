"""One prediction as picture files: ids, colours, colours over the image with or without a legend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kseg import files
from kseg.errors import DataError
from kseg.spec import Spec
from kseg.viz.images import colorize, indexed, legend, outline_width, overlay, text_size

# Kind of picture -> how its file's name ends.
KINDS = {"mask": "_mask.png", "color": "_color.png", "overlay": "_overlay.jpg", "plain": "_plain.jpg"}
WRITTEN = ("mask", "color", "overlay")
# A legend is at least so wide, in pixels.
LEGEND_WIDTH = 240
HELP = (
    "mask (palette PNG of ids), color (colours), overlay (colours over the image, with a legend in rows "
    f"below, at least {LEGEND_WIDTH} pixels wide), plain (the same at the image's size, no legend)"
)
_JPEG_QUALITY = 90
# JPEG's own limit per side.
_JPEG_SIDE = 65500
_BAND_ROWS = 256


def write(kind: str, target: Path, image: NDArray[np.uint8], mask: NDArray[Any], spec: Spec) -> None:
    """Write one picture of a prediction, whole or not at all.

    Args:
        kind: one of `KINDS`: `"mask"` (palette PNG of ids), `"color"`, `"overlay"` (colours over the image,
            with a legend in rows below), `"plain"` (the same at the image's size, no legend).
        target: the file; its suffix says PNG or JPEG.
        image: uint8 (H, W, 3).
        mask: class ids (H, W).
        spec: names and colours of the classes.

    Raises:
        DataError: if JPEG cannot hold a picture of this size.
    """
    if target.suffix == ".jpg" and max(mask.shape) > _JPEG_SIDE:
        raise DataError(f"an overlay JPEG has at most {_JPEG_SIDE} pixels a side. Use --write mask,color")
    if kind == "mask":
        picture = indexed(mask, spec)
    elif kind == "color":
        picture = Image.fromarray(_painted(None, mask, spec))
    else:
        painted = _painted(image, mask, spec)
        picture = Image.fromarray(painted if kind == "plain" else _above_legend(painted, mask, spec))
    with files.atomic(target) as temporary:
        if target.suffix == ".jpg":
            picture.save(temporary, quality=_JPEG_QUALITY)
        else:
            picture.save(temporary)


def truth(sample: Any) -> NDArray[Any]:
    """Return what a prediction of a sample is compared with: its label map."""
    mask: NDArray[Any] = sample.mask
    return mask


def describe(mask: NDArray[Any], spec: Spec) -> dict[str, Any]:
    """Return `shares`: the share of the pixels of each class that occurs."""
    counts = np.bincount(mask.reshape(-1), minlength=spec.num_classes)
    named = zip(spec.classes, counts, strict=True)
    return {"shares": {label: round(int(count) / mask.size, 6) for label, count in named if count}}


def _painted(image: NDArray[np.uint8] | None, mask: NDArray[Any], spec: Spec) -> NDArray[np.uint8]:
    """Colours of the classes, over the image if one is given; by bands, because blending is in floats."""
    result = np.empty((*mask.shape, 3), np.uint8)
    outline = outline_width(mask.shape)
    for top in range(0, mask.shape[0], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        if image is None:
            result[rows] = colorize(mask[rows], spec)
        else:
            # With the rows that an outline looks at: bands leave no seam.
            above = min(top, outline)
            wide = slice(top - above, top + _BAND_ROWS + outline)
            seen = overlay(image[wide], mask[wide], spec, outline=outline)
            result[rows] = seen[above : above + _BAND_ROWS]
    return result


def _above_legend(picture: NDArray[np.uint8], mask: NDArray[Any], spec: Spec) -> NDArray[np.uint8]:
    """Put the picture above the legend of the classes in it, on white."""
    present = np.flatnonzero(np.bincount(mask.reshape(-1)))
    rows = legend(
        spec,
        present.tolist(),
        width=max(picture.shape[1], LEGEND_WIDTH),
        text_size=text_size(mask.shape),
    )
    height = picture.shape[0]
    canvas = np.full((height + rows.shape[0], max(picture.shape[1], rows.shape[1]), 3), 255, np.uint8)
    canvas[:height, : picture.shape[1]] = picture
    canvas[height:, : rows.shape[1]] = rows
    return canvas
