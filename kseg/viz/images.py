"""Masks as pictures. Every function takes and gives numpy arrays; images are uint8 RGB, H x W x 3."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable

Picture = npt.NDArray[np.uint8]

# Ignored pixels in a colour mask: the cream of PASCAL VOC's void border.
IGNORE_COLOR = (224, 224, 192)
# A black class is as good as always the background: over an image it gets this share of the weight, so
# that it dims the image and does not hide it.
BLACK_SHARE = 1 / 3
_RIGHT, _WRONG = (40, 120, 70), (230, 40, 60)
_INK, _PAPER = (32, 33, 36), (255, 255, 255)
# An outline is one pixel wide per so many pixels of the picture's longer side, and a legend's text as high.
_OUTLINE_SIDE, _TEXT_SIDE = 900, 60
TEXT_SIZE = 13
# A panel of `side_by_side` is enlarged by a whole factor until its longer side has this many pixels.
_PANEL = 96
_LONGEST_LABEL = 100


def checked_mask(mask: npt.ArrayLike, spec: Spec, name: str = "mask") -> npt.NDArray[np.int64]:
    """Return a mask as int64 H x W whose ids are classes of `spec` or its ignore id.

    Raises:
        UsageError: if it is not a 2-D integer array.
        DataError: if it has other ids.
    """
    try:
        array = np.asarray(mask)
    except TypeError as error:
        raise UsageError(
            f"`{name}` must be an integer mask of shape (H, W). Received: {type(mask).__name__}"
        ) from error
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or array.size == 0:
        raise UsageError(
            f"`{name}` must be an integer mask of shape (H, W). "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    ids = np.unique(array)
    outside = [int(i) for i in ids if i != spec.ignore_id and not 0 <= i < spec.num_classes]
    if outside:
        raise DataError(
            f"`{name}` has ids {outside[:8]}, which are neither a class (0-{spec.num_classes - 1}) nor the "
            f"ignore id {spec.ignore_id}. Run: kseg check-data DIR"
        )
    return array.astype(np.int64)


def checked_image(image: npt.ArrayLike) -> Picture:
    """Return an image as uint8 H x W x 3; a grey one (H, W) or (H, W, 1) is repeated.

    Raises:
        UsageError: if it is not an 8-bit picture.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or array.dtype != np.uint8 or array.size == 0:
        raise UsageError(
            "`image` must be uint8 RGB of shape (H, W, 3). "
            f"Received: shape {array.shape}, dtype {array.dtype}"
        )
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _same_size(image: npt.NDArray[Any], mask: npt.NDArray[Any]) -> None:
    if image.shape[:2] != mask.shape[:2]:
        raise UsageError(
            "Image and masks must have one size (predict at original size). "
            f"Received: {image.shape[:2]} and {mask.shape[:2]}"
        )


def indexed(mask: npt.NDArray[Any], spec: Spec) -> Image.Image:
    """Return a picture whose pixel values are the ids: with a palette up to 256 classes, 16-bit beyond."""
    if mask.dtype != np.uint8:
        return Image.fromarray(mask.astype(np.uint16))
    picture = Image.fromarray(mask)
    picture.putpalette([value for color in spec.palette for value in color])
    return picture


def colorize(mask: npt.ArrayLike, spec: Spec) -> Picture:
    """Paint class ids with the spec's palette; ignored pixels get `IGNORE_COLOR`.

    Args:
        mask: integer ids, (H, W) or (H, W, 1).
        spec: gives palette and ignore id.

    Returns:
        uint8 RGB (H, W, 3).
    """
    ids = checked_mask(mask, spec)
    table = np.array([*spec.palette, IGNORE_COLOR], dtype=np.uint8)
    return table[np.where(ids == spec.ignore_id, spec.num_classes, ids)]


def overlay(
    image: npt.ArrayLike,
    mask: npt.ArrayLike,
    spec: Spec,
    alpha: float = 0.5,
    outline: int | None = None,
) -> Picture:
    """Blend the colour mask over the image, and outline the regions.

    Ignored pixels show the image unchanged; a class whose colour is black gets a third of `alpha` and no
    outline. An outline lies inside its region, in the class's colour: lightened where the image is dark
    (many palettes are dark too, and would not be seen there), darkened where it is bright.

    Args:
        image: uint8 RGB (H, W, 3).
        mask: integer ids (H, W).
        spec: gives palette and ignore id.
        alpha: weight of the mask, 0 (image only) to 1 (mask only).
        outline: width in pixels; 0: none. Default: 1 per 900 pixels of the longer side, at least 1.

    Returns:
        uint8 RGB (H, W, 3), the image's own size.
    """
    if not 0.0 <= alpha <= 1.0:
        raise UsageError(f"overlay `alpha` must be in [0, 1]. Received: {alpha!r}")
    picture, ids = checked_image(image), checked_mask(mask, spec)
    _same_size(picture, ids)
    width = outline_width(picture.shape[:2]) if outline is None else outline
    if not 0 <= width <= 255:
        raise UsageError(f"overlay `outline` must be 0-255 pixels. Received: {outline!r}")
    position = np.where(ids == spec.ignore_id, spec.num_classes, ids)
    shares = np.array([1.0 if any(color) else BLACK_SHARE for color in spec.palette] + [0.0])
    weight = alpha * shares[position][..., None]
    blended = np.rint(picture * (1.0 - weight) + colorize(ids, spec) * weight).astype(np.uint8)
    if width and alpha:
        edge = _edges(position, width) & (shares == 1.0)[position]
        blended[edge] = _contrasting(np.array([*spec.palette, IGNORE_COLOR])[position[edge]], picture[edge])
    return blended


def outline_width(size: tuple[int, ...]) -> int:
    """Return how many pixels wide `overlay` draws outlines in a picture of `(height, width)`."""
    return max(1, round(max(size) / _OUTLINE_SIDE))


def _edges(position: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels that have another class at most `width` pixels away."""
    # Filters of OpenCV take bytes or floats; those are exact for all ids that a mask can hold.
    ids: npt.NDArray[Any] = position.astype(np.uint8) if position.max() < 256 else position.astype(np.float32)
    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(ids, window) != cv2.dilate(ids, window)


def _contrasting(colors: npt.NDArray[Any], under: Picture) -> Picture:
    """Return `colors` (N, 3) at full strength over dark pixels `under` (N, 3), darkened over bright ones."""
    strongest = np.maximum(colors.max(axis=1, keepdims=True), 1)
    light = 64 + colors / strongest * 191
    dark = colors * np.minimum(1.0, 96 / strongest)
    return np.where(under.mean(axis=1, keepdims=True) < 128, light, dark).astype(np.uint8)


def error_map(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, spec: Spec, image: npt.ArrayLike | None = None
) -> Picture:
    """Paint where the prediction is wrong.

    Returns:
        uint8 RGB (H, W, 3): wrong pixels red; right ones dark green, or the dimmed grey image where one is
        given; ignored pixels `IGNORE_COLOR`.
    """
    true, predicted = checked_mask(truth, spec, "truth"), checked_mask(prediction, spec, "prediction")
    _same_size(true, predicted)
    picture = np.empty((*true.shape, 3), dtype=np.uint8)
    picture[:] = _RIGHT
    if image is not None:
        background = checked_image(image)
        _same_size(background, true)
        picture[:] = (background.mean(axis=-1, keepdims=True) * 0.6).astype(np.uint8)
    picture[true != predicted] = _WRONG
    picture[true == spec.ignore_id] = IGNORE_COLOR
    return picture


@functools.lru_cache(maxsize=8)
def _font(size: int) -> Any:
    """DejaVu Sans, which travels with kseg: Latin, Greek, Cyrillic, Arabic and more, the same everywhere.

    Pillow's own font has ASCII only, and matplotlib, which has this one, is no part of the light install.
    """
    return ImageFont.truetype(str(Path(__file__).parent / "fonts" / "DejaVuSans.ttf"), size)


def text_size(size: tuple[int, ...]) -> int:
    """Return the height of a legend's text below a picture of `(height, width)` pixels."""
    return max(TEXT_SIZE, round(max(size) / _TEXT_SIDE))


def legend(
    spec: Spec, ids: Sequence[int] | None = None, width: int | None = None, text_size: int = TEXT_SIZE
) -> Picture:
    """Draw a swatch and the name of each class, row by row in as many columns as fit.

    Args:
        spec: gives names and colours.
        ids: the classes to draw; the ignore id may be among them. None: all classes and the ignore id.
        width: width of the picture in pixels. None: wide enough for a roughly 3:1 picture. Names that
            do not fit are shortened.
        text_size: height of the text in pixels; swatches and distances follow it.

    Returns:
        uint8 RGB picture on white.
    """
    chosen = [*range(spec.num_classes), spec.ignore_id] if ids is None else [int(i) for i in ids]
    checked_mask(np.array([chosen or [0]]), spec, "ids")
    font = _font(text_size)
    entries = [
        ("ignored", IGNORE_COLOR)
        if i == spec.ignore_id
        else (printable(spec.classes[i], _LONGEST_LABEL), spec.palette[i])
        for i in chosen
    ]

    def scaled(pixels: int) -> int:
        return round(pixels * text_size / TEXT_SIZE)

    line, swatch = text_size + scaled(8), text_size
    widest = max((int(font.getlength(name)) for name, _ in entries), default=0)
    cell = widest + swatch + scaled(22)
    if width is None:
        width = cell * max(1, round((3 * len(entries) * line / cell) ** 0.5))
    columns = max(1, width // cell)
    rows = max(1, -(-len(entries) // columns))
    canvas = Image.new("RGB", (max(width, swatch + scaled(8)), rows * line + scaled(8)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for position, (name, color) in enumerate(entries):
        left = scaled(6) + (position % columns) * cell
        top = scaled(4) + (position // columns) * line
        box = (left, top + scaled(3), left + swatch, top + scaled(3) + swatch)
        draw.rectangle(box, fill=color, outline=(120, 120, 120), width=scaled(1))
        room = min(cell, canvas.width - left) - swatch - scaled(12)
        place = (left + swatch + scaled(6), top + scaled(2))
        draw.text(place, _fitted(name, room, font), fill=_INK, font=font)
    return np.asarray(canvas).copy()


def _fitted(text: str, width: float, font: Any) -> str:
    """Shorten `text` with an ellipsis until it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def side_by_side(
    image: npt.ArrayLike,
    truth: npt.ArrayLike | None,
    prediction: npt.ArrayLike,
    spec: Spec,
    *,
    errors: bool = False,
    alpha: float = 1.0,
) -> Picture:
    """Draw image | truth | prediction (| errors) in one row, with titles and a legend below.

    Args:
        image: uint8 RGB (H, W, 3).
        truth: integer ids (H, W); None leaves its panel out.
        prediction: integer ids (H, W).
        spec: gives names, palette and ignore id. The legend shows the classes that occur.
        errors: adds a panel of wrong pixels; needs `truth`.
        alpha: weight of the masks over the image in their panels; 1 paints the pure masks.

    Returns:
        uint8 RGB picture. Small images are enlarged by a whole factor.
    """
    if errors and truth is None:
        raise UsageError("side_by_side `errors=True` needs a `truth`. Received: truth=None")
    picture = checked_image(image)
    masks = {"truth": truth, "prediction": prediction}
    given = {name: checked_mask(mask, spec, name) for name, mask in masks.items() if mask is not None}

    def painted(mask: npt.NDArray[np.int64]) -> Picture:
        return colorize(mask, spec) if alpha == 1.0 else overlay(picture, mask, spec, alpha)

    panels = {"image": picture}
    for name, mask in given.items():
        _same_size(picture, mask)
        panels[name] = painted(mask)
    if errors:
        panels["errors"] = error_map(given["truth"], given["prediction"], spec, picture)

    factor = max(1, -(-_PANEL // max(picture.shape[:2])))
    height, width = picture.shape[0] * factor, picture.shape[1] * factor
    gap, title = 8, 22
    total = len(panels) * (width + gap) + gap
    ids = sorted(set().union(*(np.unique(mask).tolist() for mask in given.values())))
    names = legend(spec, ids, width=total)
    canvas = Image.new("RGB", (total, title + height + 4 + names.shape[0]), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for position, (name, panel) in enumerate(panels.items()):
        left = gap + position * (width + gap)
        draw.text((left, 3), name, fill=_INK, font=_font(14))
        enlarged = panel.repeat(factor, axis=0).repeat(factor, axis=1)
        canvas.paste(Image.fromarray(enlarged), (left, title))
    canvas.paste(Image.fromarray(names), (0, title + height + 4))
    return np.asarray(canvas).copy()
