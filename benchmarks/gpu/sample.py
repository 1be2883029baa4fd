"""The embedded nuclei as arrays, with numpy, Pillow and OpenCV alone: no TFDS, no pycocotools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kseg.data.pictures.images import read_image
from kseg.data.sources.embedded import SAMPLES
from kseg.spec import Normalization, Spec

MASKS = Path(__file__).with_name("nuclei_masks.npz")
CLASSES = ("background", "nucleus")


@dataclass(frozen=True)
class Labelled:
    """One image uint8 (H, W, 3) with its mask of class ids uint8 (H, W)."""

    name: str
    image: np.ndarray
    mask: np.ndarray
    instances: None = None


def spec(size: tuple[int, int] | None = None) -> Spec:
    """Return the sample's spec, for networks of the given input size."""
    half = (127.5, 127.5, 127.5)
    return Spec(
        classes=CLASSES,
        input_size=size,
        normalization=Normalization(order="rgb", mean=half, std=half),
        data={"source": "sample:nuclei"},
    )


def samples(split: str, side: int | None = None) -> list[Labelled]:
    """Return the images of a split in order of name; `side`: only their top left squares."""
    folder = SAMPLES / "nuclei" / "images" / split
    found = []
    with np.load(MASKS) as masks:
        for file in sorted(folder.iterdir()):
            height, width = masks[f"{split}/{file.stem}/shape"]
            bits = np.unpackbits(masks[f"{split}/{file.stem}"], count=height * width)
            image, mask = read_image(file), bits.reshape(height, width)
            found.append(Labelled(file.stem, image[:side, :side], mask[:side, :side]))
    return found
