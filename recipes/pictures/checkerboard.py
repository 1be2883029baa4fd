"""Draws docs/pictures/checkerboard.png: how evenly transposed convolutions cover their output.

    python recipes/pictures/checkerboard.py [FILE.png]

A constant map of 8 x 8 ones is enlarged to 16 x 16. Above by kernels of ones: what is not flat comes from the
overlap alone. Below by random weights over 16 channels, by the bilinear kernel, and by resizing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from keras import ops

mpl.use("Agg")
import matplotlib.pyplot as plt

from kseg import files
from kseg.layers import BilinearUpsampling, TransposedConv

SIDE, CHANNELS, SEED = 8, 16, 0
DEFAULT = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "checkerboard.png"
# Title, kernel size, stride, padding, output padding.
SIZES = (
    ("kernel 3, stride 2: 1, 2, 4", 3, 2, 1, 1),
    ("kernel 5, stride 2 (DCGAN): 4, 6, 9", 5, 2, 2, 1),
    ("kernel 4, stride 2: even", 4, 2, 1, 0),
)


def enlarged(kernel: np.ndarray, stride: int, padding: int, output_padding: int) -> np.ndarray:
    """Enlarge a constant map with `kernel` (k, k, 1, C); returns (H, W)."""
    layer = TransposedConv(1, kernel.shape[0], stride, padding, output_padding=output_padding, bilinear=False)
    layer.build((None, None, None, kernel.shape[-1]))
    layer.kernel.assign(kernel)
    constant = np.ones((1, SIDE, SIDE, kernel.shape[-1]), "float32")
    return np.asarray(ops.convert_to_numpy(layer(constant)))[0, ..., 0]


def maps() -> list[tuple[str, np.ndarray]]:
    """The six pictures: titles and maps."""
    panels = [
        (title, enlarged(np.ones((size, size, 1, 1), "float32"), *sizes)) for title, size, *sizes in SIZES
    ]
    random = np.random.default_rng(SEED).normal(0.2, 1, (4, 4, 1, CHANNELS))
    panels.append(("kernel 4, random weights", enlarged(random.astype("float32"), 2, 1, 0)))
    ones = np.ones((1, SIDE, SIDE, 1), "float32")
    for title, layer in (
        ("kernel 4, bilinear", TransposedConv(None, 4, 2)),
        ("bilinear resize", BilinearUpsampling(2)),
    ):
        panels.append((title, np.asarray(ops.convert_to_numpy(layer(ones)))[0, ..., 0]))
    return panels


def main() -> None:
    """Draw the picture."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    figure, axes = plt.subplots(2, 3, figsize=(7.2, 5.0), dpi=100, layout="constrained")
    for axis, (title, values) in zip(axes.flat, maps(), strict=True):
        shown = axis.imshow(values, cmap="viridis", vmin=min(0.0, values.min()), interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.colorbar(shown, ax=axis, shrink=0.8)
    figure.suptitle("A constant map of 8 x 8, enlarged twice", fontsize=10)
    with files.atomic(target) as temporary:
        figure.savefig(temporary, format="png")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
