"""Objects pasted to a class map: the semantic output of an instance network.

SDS, section 5: the surest segments are pasted, few of an image, and the surer lies on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import records
from kseg.data.detections import Detections
from kseg.spec import Spec

KEY = "paste"
# Of an image so many are considered at most where a number was tuned.
CONSIDERED = 10


class Paste(records.Record, frozen=True):
    """Which objects of an image are pasted: `recipe["paste"]` of a spec.

    Args:
        at_least: their score.
        most: how many, the surest; None: all.
    """

    at_least: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    most: Annotated[int, msgspec.Meta(ge=1)] | None = None


def paste_of(spec: Spec) -> Paste:
    """Return what the spec of a network says, or the objects of a score of 0.5 and more.

    Raises:
        ArtefactError: if it says something else.
    """
    given: Any = spec.recipe.get(KEY, {})
    return records.convert(given, Paste, where=f'`recipe["{KEY}"]` of the spec')


def pasted_classes(found: Detections, how: Paste) -> NDArray[np.integer]:
    """Return class ids `(H, W)`, 0 where no object is: uint8, or int32 for more than 255 classes."""
    sure = found[found.scores >= how.at_least][: how.most]
    large = len(sure) and sure.classes.max() > np.iinfo(np.uint8).max
    picture: NDArray[np.integer] = np.zeros(found.size, np.int32 if large else np.uint8)
    for index in range(len(sure) - 1, -1, -1):
        rows, crop = sure.masks.crop(index)
        picture[rows][crop] = sure.classes[index]
    return picture


def tuned(found: Iterable[Detections], segments: float) -> Paste:
    """Return how to paste so that images have `segments` pasted segments on average, at most.

    Args:
        found: of some images, those that the network learned from.
        segments: the paper's number is 2.
    """
    scores: list[Sequence[float]] = [each.scores[:CONSIDERED].tolist() for each in found]
    every = sorted((score for image in scores for score in image), reverse=True)
    allowed = int(segments * len(scores))
    # Just above the first that is one too many.
    at_least = float(np.nextafter(np.float32(every[allowed]), np.float32(1))) if len(every) > allowed else 0.0
    return Paste(at_least=min(at_least, 1.0), most=CONSIDERED)
