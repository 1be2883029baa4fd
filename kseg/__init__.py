"""kseg: segmentation networks in Keras 3, trained by `model.fit` and put on devices.

Importing kseg imports neither Keras nor TensorFlow: each name below is loaded on first use, so that
a device with numpy and one runtime can use `kseg.Spec` and `kseg.Predictor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kseg.errors import load_room

__version__ = "0.1.0"

_ROOMS = ("data", "encoders", "inference", "layers", "losses", "metrics", "models", "training", "viz")
_NAMES = {
    "Spec": "kseg.spec",
    "Normalization": "kseg.spec",
    "Predictor": "kseg.inference",
    "save": "kseg.saving",
    "load": "kseg.saving",
}

if TYPE_CHECKING:
    from kseg.inference import Predictor
    from kseg.saving import load, save
    from kseg.spec import Normalization, Spec

__all__ = [
    "Normalization",
    "Predictor",
    "Spec",
    "data",
    "encoders",
    "inference",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "save",
    "training",
    "viz",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return load_room(f"kseg.{name}")
    if name in _NAMES:
        return getattr(load_room(_NAMES[name]), name)
    raise AttributeError(f"module 'kseg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
