"""Masks as pictures. Every function takes and gives numpy arrays; images are uint8 RGB, H x W x 3."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
# A panel of `side_by_side` is enlarged by a whole factor until its longer side has this many pixels.
_PANEL = 96
_LONGEST_LABEL = 100


def checked_mask(mask: npt.ArrayLike, spec: Spec, name: str = "mask") -> npt.NDArray[np.int64]:
    """Return a mask as int64 H x W whose ids are classes of `spec` or its ignore id.

    Raises:
        UsageError: if it is not a 2-D integer array.
        DataError: if it has other ids.
    """
    array = np.asarray(mask)
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


def overlay(image: npt.ArrayLike, mask: npt.ArrayLike, spec: Spec, alpha: float = 0.5) -> Picture:
    """Blend the colour mask over the image.

    Ignored pixels show the image unchanged; a class whose colour is black gets a third of `alpha`.

    Args:
        image: uint8 RGB (H, W, 3).
        mask: integer ids (H, W).
        spec: gives palette and ignore id.
        alpha: weight of the mask, 0 (image only) to 1 (mask only).
    """
    if not 0.0 <= alpha <= 1.0:
        raise UsageError(f"overlay `alpha` must be in [0, 1]. Received: {alpha!r}")
    picture, ids = checked_image(image), checked_mask(mask, spec)
    _same_size(picture, ids)
    shares = np.array([1.0 if any(color) else BLACK_SHARE for color in spec.palette] + [0.0])
    weight = alpha * shares[np.where(ids == spec.ignore_id, spec.num_classes, ids)][..., None]
    return np.rint(picture * (1.0 - weight) + colorize(ids, spec) * weight).astype(np.uint8)


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
    """DejaVu Sans from matplotlib: wide coverage of scripts, on every platform."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def legend(
    spec: Spec, ids: Sequence[int] | None = None, width: int | None = None, text_size: int = 13
) -> Picture:
    """Draw a swatch and the name of each class, row by row in as many columns as fit.

    Args:
        spec: gives names and colours.
        ids: the classes to draw; the ignore id may be among them. None: all classes and the ignore id.
        width: width of the picture in pixels. None: wide enough for a roughly 3:1 picture. Names that
            do not fit are shortened.
        text_size: height of the text in pixels.

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
    line, swatch = text_size + 8, text_size
    widest = max((int(font.getlength(name)) for name, _ in entries), default=0)
    cell = widest + swatch + 22
    if width is None:
        width = cell * max(1, round((3 * len(entries) * line / cell) ** 0.5))
    columns = max(1, width // cell)
    rows = max(1, -(-len(entries) // columns))
    canvas = Image.new("RGB", (max(width, swatch + 8), rows * line + 8), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for position, (name, color) in enumerate(entries):
        left, top = 6 + (position % columns) * cell, 4 + (position // columns) * line
        draw.rectangle((left, top + 3, left + swatch, top + 3 + swatch), fill=color, outline=(120, 120, 120))
        room = min(cell, canvas.width - left) - swatch - 12
        draw.text((left + swatch + 6, top + 2), _fitted(name, room, font), fill=_INK, font=font)
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
