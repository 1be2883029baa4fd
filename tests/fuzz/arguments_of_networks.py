"""Arguments of the networks, to be spoiled."""

from __future__ import annotations

from typing import Any

# Arguments that make a small network of each kind, all of those that a file may name.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "UNet": {"width": 0.1, "depth": 2, "encoder": "plain", "padding": "same", "dropout": 0.5},
    "FarabetNet": {
        "scales": 2,
        "classifier": "mlp",
        "hidden": 8,
        "chroma": "split",
        "window": 15,
        "width": 0.1,
        "seed": 1,
        "normalization": {"order": "rgb", "mean": [1, 2, 3], "std": [1, 1, 1]},
    },
    "RecurrentCNN": {
        "variant": "rcnn2",
        "instances": 2,
        "features": [4, 8],
        "feedback": "scores",
        "last_tanh": True,
        "evaluator": "dilated",
        "output_stride": 1,
        "width": 0.2,
    },
    "CRFRNN": {
        "base": "UNet",
        "base_args": {"width": 0.1, "depth": 2},
        "iterations": 2,
        "test_iterations": 2,
        "window": 3,
        "dilation": 1,
        "stride": 1,
        "theta_alpha": 10.0,
        "w1": 1.0,
        "std": [1.0, 1.0, 1.0],
    },
    "FCN8s": {"encoder": "mobilenetv3", "width": 0.35, "dropout": 0.1},
    "TextonBoost": {"textons": 8, "rectangles": 4, "features": 12, "head": "stumps", "grid": 5, "kappa": 1.0},
}
