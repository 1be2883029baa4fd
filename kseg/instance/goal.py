"""What a training asks of instance segmentation: the number of objects. Losses lie inside the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.data.sample import Outline, outlines_of
from kseg.errors import DataError
from kseg.instance.targets import InstanceTarget
from kseg.progress import Say, said
from kseg.spec import Spec
from kseg.training.config import TrainConfig
from kseg.training.goal import Seen

# Of images with more objects the largest are learned from: memory grows with the rows.
MOST = 400
SAID_EVERY = 500


@dataclass(frozen=True)
class ObjectCounts:
    """What the goal knows of the samples.

    Args:
        objects: objects in all, crowds left out.
        most: objects and crowds of the image that has most.
    """

    objects: int
    most: int


class InstanceGoal:
    """See `kseg.training.goal.Goal`."""

    def __init__(self, config: TrainConfig) -> None:
        self.encode = InstanceTarget(MOST)

    def look(self, samples: Sequence[Any], spec: Spec, split: str, say: Say) -> Seen:
        """Count the objects; refuse data without instances, or without an object."""
        sizes, objects, most = set(), 0, 1
        for outline in said(say, SAID_EVERY)(outlines_of(samples), len(samples), "counting objects"):
            crowd = _crowd(outline, split)
            sizes.add(outline.size)
            objects += int((~crowd).sum())
            most = max(most, len(crowd))
        if not objects:
            raise DataError(f"Split '{split}' has no object to learn from. Run: kseg check-data DIR")
        self.encode = InstanceTarget(min(most, MOST))
        return Seen(tuple(sorted(sizes)), ObjectCounts(objects, most))

    def recount(self, samples: Sequence[Any], spec: Spec) -> None:
        """Nothing is cut from samples: the task has no crops of objects."""

    def check_held_out(self, samples: Sequence[Any], spec: Spec, split: str) -> None:
        """Refuse samples without instances, or without an object: nothing can be scored."""
        if all(_crowd(outline, split).all() for outline in outlines_of(samples)):
            raise DataError(f"Split '{split}' has no object, so nothing can be scored on it")

    def class_weights(self, facts: ObjectCounts, batch_size: int) -> None:
        """Return None: sampling balances objects and background."""

    def loss(self, settled: Any, head: Any = None) -> Any:
        """Never asked: the losses lie inside the networks of this task."""
        raise NotImplementedError

    def metrics(self, settled: Any) -> Any:
        """Never asked: the scorer scores whole images."""
        raise NotImplementedError

    def chance(self, spec: Spec, validation: Any, score: float) -> dict[str, Any]:
        """Return nothing: no object is found without looking."""
        return {}


def _crowd(outline: Outline, split: str) -> NDArray[np.bool_]:
    """Return which instances of a sample are crowds."""
    if outline.crowd is None:
        raise DataError(
            f"Sample '{outline.name}' of split '{split}' has no instances: this data holds a class for each "
            "pixel. Instance networks need COCO's instances_SPLIT.json (of masks of ids `kseg convert-data "
            "--format id-masks` makes it; of a folder with both, `truth` in classes.json says which)"
        )
    return outline.crowd
