"""Recall of proposals: how many objects the first N of an image reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseg.checks import whole
from kseg.data.run_lengths import Masks
from kseg.errors import UsageError
from kseg.metrics.instances.scene import Truth, corners, encoded, of_size, shares

NUMBERS = (100, 300, 1000, 2000)
# COCO's: 0.5, 0.55 ... 0.95.
IOUS = np.linspace(0.5, 0.95, 10)


class ProposalRecall:
    """Recall of proposals of any class, one image after another; two merge by `+`.

    An object is reached at an IoU if one of the first N proposals of its image has at least that IoU with
    it; two objects may be reached by one proposal. Crowds do not count. One float per object and number is
    kept.

    Args:
        numbers: how many proposals of an image count, rising.

    Example:

    ```python
    recall = ProposalRecall()
    for sample in samples:
        recall.add(sample, propose(sample.image))
    print(recall.scores()["recall@300"])
    ```
    """

    def __init__(self, numbers: Sequence[int] = NUMBERS) -> None:
        self.numbers = tuple(whole(number, "ProposalRecall", "numbers") for number in numbers)
        if not self.numbers or list(self.numbers) != sorted(set(self.numbers)):
            raise UsageError(
                f"ProposalRecall `numbers` must rise. Received: numbers={list(map(int, self.numbers))}"
            )
        self._reached: list[NDArray[np.float64]] = []
        self.proposals = self.images = 0

    def add(self, sample: Any, proposals: Masks | NDArray[Any]) -> None:
        """Count the proposals of one image.

        Args:
            sample: with `instances`.
            proposals: masks, or boxes (N, 4) `(y0, x0, y1, x1)`, which are held against the smallest boxes
                around the objects; the best first.

        Raises:
            UsageError: if masks are of another size than the truth.
        """
        truth, size = Truth.of(sample.instances), sample.instances.layers.shape[1:]
        if isinstance(proposals, Masks):
            if proposals.size != size:
                raise UsageError(
                    f"Sample '{sample.name}' is {size[0]}x{size[1]}, its proposals are for "
                    f"{proposals.size[0]}x{proposals.size[1]}"
                )
            found = of_size(encoded(proposals[: self.numbers[-1]]), size)
            overlaps = shares(found, of_size(truth.codes, size), truth.crowd)
        else:
            overlaps = shares(corners(proposals)[: self.numbers[-1]], truth.boxes, truth.crowd)
        overlaps = overlaps[:, ~truth.crowd]
        best = np.stack([overlaps[:number].max(axis=0, initial=0.0) for number in self.numbers])
        self._reached.append(best)
        self.proposals += len(proposals)
        self.images += 1

    def scores(self) -> dict[str, Any]:
        """Return, for each number N, `recall@N` at IoU 0.5 and `average_recall@N`, the mean over `IOUS`.

        Also `images`, `objects` and `proposals` (per image, on average; all that were given). JSON-ready;
        None where there is no object.
        """
        reached = np.concatenate([np.zeros((len(self.numbers), 0)), *self._reached], axis=1)
        recall = (reached[:, :, None] >= IOUS).mean(axis=1) if reached.shape[1] else None
        found: dict[str, Any] = {}
        for index, number in enumerate(self.numbers):
            found[f"recall@{number}"] = None if recall is None else float(recall[index, 0])
            found[f"average_recall@{number}"] = None if recall is None else float(recall[index].mean())
        per_image = self.proposals / self.images if self.images else None
        return {**found, "images": self.images, "objects": reached.shape[1], "proposals": per_image}

    def __add__(self, other: ProposalRecall) -> ProposalRecall:
        if self.numbers != other.numbers:
            raise UsageError(
                f"Only recalls at the same numbers can be added. Received: {self.numbers} and {other.numbers}"
            )
        merged = ProposalRecall(self.numbers)
        merged._reached = self._reached + other._reached
        merged.proposals, merged.images = self.proposals + other.proposals, self.images + other.images
        return merged
