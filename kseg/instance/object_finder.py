"""What every predictor of objects has: images in, one after another, the objects of each out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from kseg.data.detections import Detections
from kseg.inference.pictures import Picture, several


class ObjectFinder:
    """Base of predictors of objects; subclasses say what a network tells of an image, and what it means."""

    # Runs the network.
    runtime: Any

    def __call__(self, images: Picture | Iterable[Picture]) -> list[Detections]:
        """Return the objects of each image."""
        return list(self.stream(several(images)))

    def stream(self, images: Iterable[Picture]) -> Iterator[Detections]:
        """Yield the objects of one image after another."""
        for picture in images:
            yield self.decide(self.outputs(picture))

    def outputs(self, picture: Picture) -> Mapping[str, NDArray[Any]]:
        """Return what the network says of one image, by name."""
        raise NotImplementedError

    def decide(self, outputs: Mapping[str, NDArray[Any]]) -> Detections:
        """Return the objects that `outputs` mean."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the runtime."""
        self.runtime.close()
