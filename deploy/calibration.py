"""The images from which int8 learns its ranges, and the record of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from deploy.images import Images, draw, drawn_inputs, network_inputs
from kseg import tasks
from kseg.checks import whole
from kseg.spec import Spec

METHOD = "min-max, symmetric per-channel weights, per-tensor activations"
# Where an image is hundreds of inputs (`Task.drawn`).
WIDEST = f"{METHOD}, the widest of all"


class Calibration:
    """Seeded images of the train split, as the network sees them in prediction.

    Args:
        data: folder, `tfds:NAME`, source, or a sequence of samples.
        spec: the model's spec: how images are normalised and resized.
        size: `(height, width)` of the network's input.
        count: how many images.
        seed: which ones.
    """

    def __init__(self, data: Any, spec: Spec, size: tuple[int, int], *, count: int, seed: int) -> None:
        whole(count, "Argument", "calibration_images")
        self._spec, self._size, self._seed = spec, size, seed
        self._images: Images = draw(data, count=count, seed=seed)
        self._drawn = tasks.find(spec.task).drawn
        self._seen = 0
        self._low, self._high = np.inf, -np.inf

    @property
    def widest(self) -> bool:
        """Whether ranges are the widest of all inputs, instead of their average."""
        return self._drawn > 0

    def images(self) -> Iterator[np.ndarray]:
        """Yield network inputs, float32 `(H, W, 3)`; the record is whole when all are drawn."""
        given = self._images, self._spec, self._size
        inputs = drawn_inputs(*given, self._drawn, self._seed) if self.widest else network_inputs(*given)
        for image in inputs:
            self._seen += 1
            self._low = min(self._low, float(image.min()))
            self._high = max(self._high, float(image.max()))
            yield image

    def to_dict(self) -> dict[str, Any]:
        """Return the record that goes into the artefact: which images, how many, their range, the method."""
        names = [str(sample.name) for sample in self._images]
        return {
            "source": self._images.source,
            "split": self._images.split,
            "images": len(self._images),
            "inputs": self._seen,
            "seed": self._seed,
            "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "range": [self._low, self._high] if self._seen else None,
            "method": WIDEST if self.widest else METHOD,
        }
