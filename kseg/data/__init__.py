"""Data: sources (folders, TFDS sets, an embedded sample), joint transforms, batches, checks.

Importing this package imports neither TensorFlow nor Keras; each name is loaded on first use.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kseg.lazy import lazy

_NAMES = {
    "open": "sources",
    "Source": "sources",
    "Sample": "sources",
    "Samples": "sources",
    "Instances": "instances",
    "load": "batches",
    "from_arrays": "batches",
    "Batches": "batches",
    "Augment": "transforms",
    "Resize": "transforms",
    "preprocess": "normalize",
    "Palette": "palette",
    "check": "check",
    "convert": "convert",
    "class_weights": "weights",
}

if TYPE_CHECKING:
    from kseg.data.batches import Batches, from_arrays, load
    from kseg.data.check import check
    from kseg.data.convert import convert
    from kseg.data.instances import Instances
    from kseg.data.normalize import preprocess
    from kseg.data.palette import Palette
    from kseg.data.sources import Sample, Samples, Source, open
    from kseg.data.transforms import Augment, Resize
    from kseg.data.weights import class_weights

__all__ = [
    "Augment",
    "Batches",
    "Instances",
    "Palette",
    "Resize",
    "Sample",
    "Samples",
    "Source",
    "check",
    "class_weights",
    "convert",
    "from_arrays",
    "load",
    "open",
    "preprocess",
]

# Names load on first use.
__getattr__, __dir__ = lazy(__name__, _NAMES)


class _Package(ModuleType):
    """Keeps `kseg.data.check` the function: importing the submodule `check` would else put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
