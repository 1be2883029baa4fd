"""What predictors that work on scores of the whole image share: class maps by the largest score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.inference.pictures import Picture, several

if TYPE_CHECKING:
    from kseg.inference.runtime import Runtime
    from kseg.semantic.inference.predictor import Predictor
    from kseg.spec import Spec

Floats = NDArray[np.float32]


class ScoredPredictor:
    """A predictor with the surface of `Predictor` around another one, `base`; subclasses give `logits`.

    All scores of an image are held: 4 bytes per pixel and class. Images go one after the other.
    """

    base: Predictor
    batch_size = 1

    @property
    def spec(self) -> Spec:
        """The Spec of `base`."""
        return self.base.spec

    @property
    def runtime(self) -> Runtime:
        """What runs the network of `base`."""
        return self.base.runtime

    @property
    def size(self) -> tuple[int, int] | None:
        """`(height, width)` at which the network is run, or None."""
        return self.base.size

    @property
    def resize(self) -> str:
        """The rule by which an image meets that size."""
        return self.base.resize

    @property
    def overlap(self) -> float:
        """Share of a tile that neighbours have in common."""
        return self.base.overlap

    @property
    def flip(self) -> bool:
        """Whether the mirrored image is averaged in."""
        return self.base.flip

    @property
    def scales(self) -> tuple[float, ...]:
        """Image scales that are averaged."""
        return self.base.scales

    def set_bias(self, bias: Sequence[float]) -> None:
        """Add one number per class to the network's logits from now on; see `Predictor`."""
        self.base.set_bias(bias)

    def __call__(self, images: Picture | Iterable[Picture]) -> list[NDArray[Any]]:
        """Return one class map `(H, W)` per image, as `Predictor` does."""
        return list(self.stream(several(images)))

    def stream(self, images: Iterable[Picture]) -> Iterator[NDArray[Any]]:
        """Yield class maps one after another; one image is held."""
        kind = np.uint8 if self.spec.num_classes <= 256 else np.int32
        for picture in images:
            yield self.logits(picture).argmax(axis=-1).astype(kind)

    def logits(self, image: Picture) -> Floats:
        """Return float32 `(H, W, classes)` scores at the image's own size."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the runtime."""
        self.base.close()


def gives_log_probabilities(predictor: Any) -> bool:
    """Whether `predictor.logits` are logarithms of probabilities, so never positive, instead of raw scores.

    Averages over flips, scales and networks are.
    """
    own = getattr(predictor, "log_probabilities", None)
    if own is not None:
        return bool(own)
    averaged = len(predictor.scales) * (1 + predictor.flip) > 1
    return averaged or bool(getattr(predictor.runtime, "log_probabilities", False))
