"""Data: sources (folders, TFDS sets, an embedded sample), joint transforms, batches, checks.

Importing this package imports neither TensorFlow nor Keras; each name is loaded on first use.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kseg.lazy import lazy

_NAMES = {
    "open": "sources.formats",
    "Source": "sources.source",
    "Sample": "sample",
    "Samples": "sample",
    "Instances": "instances",
    "Detections": "detections",
    "Masks": "run_lengths",
    "load": "batches.loading",
    "from_arrays": "batches.loading",
    "Batches": "batches.batches",
    "Augment": "transforms.augment",
    "Resize": "transforms.resize",
    "preprocess": "transforms.normalize",
    "Palette": "pictures.palette",
    "check": "checking.check",
    "convert": "convert",
    "class_weights": "counting.weights",
}

if TYPE_CHECKING:
    from kseg.data.batches.batches import Batches
    from kseg.data.batches.loading import from_arrays, load
    from kseg.data.checking.check import check
    from kseg.data.convert import convert
    from kseg.data.counting.weights import class_weights
    from kseg.data.detections import Detections
    from kseg.data.instances import Instances
    from kseg.data.pictures.palette import Palette
    from kseg.data.run_lengths import Masks
    from kseg.data.sample import Sample, Samples
    from kseg.data.sources.formats import open
    from kseg.data.sources.source import Source
    from kseg.data.transforms.augment import Augment
    from kseg.data.transforms.normalize import preprocess
    from kseg.data.transforms.resize import Resize

__all__ = [
    "Augment",
    "Batches",
    "Detections",
    "Instances",
    "Masks",
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
    """Keeps `kseg.data.convert` the function: importing the room of that name would else put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
