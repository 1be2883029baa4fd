"""kseg: segmentation networks in Keras 3, trained by `model.fit` and put on devices.

Importing kseg imports neither Keras nor TensorFlow: each name below is loaded on first use, so that
a device with numpy and one runtime can use `kseg.Spec` and `kseg.Predictor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kseg.lazy import lazy
from kseg.version import __version__ as __version__

_ROOMS = ("data", "encoders", "inference", "layers", "losses", "metrics", "models", "training", "viz")
_NAMES = {
    "Spec": "kseg.spec",
    "Normalization": "kseg.spec",
    "Predictor": "kseg.inference",
    "InstancePredictor": "kseg.instance.predictor",
    "save": "kseg.saving",
    "load": "kseg.saving",
}

if TYPE_CHECKING:
    from kseg.inference import Predictor
    from kseg.instance.predictor import InstancePredictor
    from kseg.saving import load, save
    from kseg.spec import Normalization, Spec

__all__ = [
    "InstancePredictor",
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

# Names load on first use.
__getattr__, __dir__ = lazy(__name__, _NAMES, _ROOMS)
