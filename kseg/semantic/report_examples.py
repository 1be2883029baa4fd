"""The report's example viewer: pictures as data URIs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kseg.errors import UsageError
from kseg.spec import Spec
from kseg.viz.escaping import escape
from kseg.viz.images import BLACK_SHARE, IGNORE_COLOR, checked_image, checked_mask
from kseg.viz.viewer import PHOTO, data_uri, figure, photo_uri, section, shrunk

# Name, image (H, W, 3) uint8, truth (H, W) or None, prediction (H, W).
Example = tuple[str, npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any]]


def _mask_uri(mask: npt.NDArray[np.int64], spec: Spec) -> str:
    """A mask as PNG: an indexed one (small) where the ids fit into a byte.

    Ignored pixels are transparent and black classes nearly so: the viewer lays masks over the image.
    """
    opacity = [255 if any(color) else round(255 * BLACK_SHARE) for color in spec.palette] + [0]
    position = np.where(mask == spec.ignore_id, spec.num_classes, mask)
    size = shrunk((mask.shape[1], mask.shape[0]))
    if spec.num_classes < 256:
        picture = Image.fromarray(position.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        # Setting a palette turns the grey picture into an indexed one.
        picture.putpalette([value for color in (*spec.palette, IGNORE_COLOR) for value in color])
        return data_uri(picture, format="PNG", transparency=bytes(opacity), optimize=True)
    colors = [*spec.palette, IGNORE_COLOR]
    table = np.array([(*color, a) for color, a in zip(colors, opacity, strict=True)], dtype=np.uint8)
    return data_uri(Image.fromarray(table[position]).resize(size, Image.Resampling.NEAREST), format="PNG")


def _error_uri(truth: npt.NDArray[np.int64], prediction: npt.NDArray[np.int64], spec: Spec) -> str:
    """Wrong pixels red, the rest transparent."""
    wrong = ((truth != prediction) & (truth != spec.ignore_id)).astype(np.uint8)
    picture = Image.fromarray(wrong).resize(
        shrunk((truth.shape[1], truth.shape[0])), Image.Resampling.NEAREST
    )
    picture.putpalette([0, 0, 0, 230, 40, 60])
    return data_uri(picture, format="PNG", transparency=0, optimize=True)


def _figure(example: Example, spec: Spec) -> str:
    name, image, truth, prediction = example
    picture = checked_image(image)
    masks = {"truth": truth, "prediction": prediction}
    given = {key: checked_mask(mask, spec, key) for key, mask in masks.items() if mask is not None}
    if any(mask.shape != picture.shape[:2] for mask in given.values()):
        raise UsageError(f"Example '{name}': image and masks must have one size.")
    photo = Image.fromarray(picture)
    layers = {PHOTO: photo_uri(photo)} | {key: _mask_uri(mask, spec) for key, mask in given.items()}
    if truth is not None:
        layers["errors"] = _error_uri(given["truth"], given["prediction"], spec)
    return figure(str(name), layers, shrunk(photo.size))


def _legend(examples: list[Example], spec: Spec) -> str:
    """Chips of the classes that occur in the examples."""
    masks = [mask for _, _, truth, prediction in examples for mask in (truth, prediction) if mask is not None]
    ids = sorted({int(value) for mask in masks for value in np.unique(mask)} - {spec.ignore_id})
    chips = "".join(
        f'<span><i class="sw" style="background:rgb{spec.palette[i]}"></i>{escape(spec.classes[i])}</span>'
        for i in ids
    )
    return f'<div class="legend">{chips}<span>no colour: ignored</span></div>'


def examples_section(examples: Iterable[Example], spec: Spec) -> str:
    """Return the section with the viewer, or an empty text when there are no examples."""
    chosen = list(examples)
    return section([_figure(example, spec) for example in chosen], _legend(chosen, spec))
