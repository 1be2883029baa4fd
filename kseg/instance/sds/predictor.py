"""Objects of images of any size by a network that classifies regions."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import clipped, moved
from kseg.checks import Range, check_choice, flag, whole
from kseg.data.detections import Detections
from kseg.data.proposals import Proposals, StoredProposer
from kseg.data.run_lengths import Masks
from kseg.errors import UsageError
from kseg.inference.distributions import probabilities
from kseg.inference.pictures import Picture, as_image
from kseg.inference.runtime import Runtime, opened_runtime
from kseg.instance.object_finder import ObjectFinder
from kseg.instance.sds.crops import Cropper, in_batches
from kseg.instance.sds.logistic import sigmoid
from kseg.instance.sds.outputs import COARSE, LOGITS, MARGINS, MOVES, outputs
from kseg.instance.sds.recipe import recipe_of, rules
from kseg.instance.sds.refinement import refined
from kseg.instance.sds.suppression import BOXES, REGIONS, SUPPRESSIONS, apart, boxes_apart
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

Size = tuple[int, int]
# A margin of -1.1 as a share: SVMs are trained until negatives lie below -1. Of a softmax, less.
_LEAST_OF_SVMS, _LEAST = 0.25, 0.05


def shares(logits: NDArray[Any], margins: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return scores in 0..1 of each class but the background, `(N, C - 1)`: of SVMs, else of the softmax.

    A margin of 0 becomes 0.5.
    """
    if margins is not None:
        return sigmoid(margins).astype(np.float32)
    return probabilities(logits)[:, 1:]


def proposed(found: Proposals, size: Size) -> dict[str, NDArray[Any]]:
    """Return proposals as a part of what `RegionPredictor.outputs` gives."""
    seen: dict[str, NDArray[Any]] = {
        "boxes": found.boxes, "order": found.scores, "size": np.asarray(size, np.int32),
    }  # fmt: skip
    if found.superpixels is not None and found.members is not None:
        seen |= {"superpixels": found.superpixels, "members": found.members}
    return seen


class RegionPredictor(ObjectFinder):
    """Find the objects of images: propose regions, classify each, keep those apart, refine them.

    Args:
        model_or_path: a Keras model with `.spec`, a runtime, or the path of a model file.
        size: of the network's crops; it has one.
        batch_size: crops that the network is given at once.
        count: regions that are looked at. Default: as in training.
        refine: whether regions are refined, where the network can.
        suppress: `"regions"`: two detections of a class share no superpixel; `"boxes"`: their boxes have an
            IoU of 0.3 at most. Default: regions where proposals have masks.
        at_least: score that a detection must have. Default: 0.25 of SVMs (a margin of -1.1), else 0.05.
        detections: objects of an image at most.
        stored: whether proposals are kept on disk and taken from there (`StoredProposer`).

    Raises:
        UsageError: if an argument is out of range, or another size than the network's is asked for.
        ArtefactError: if the file is missing, damaged or not ours.
        MissingExtraError: if what proposes regions is not installed.

    Example:
        >>> found = RegionPredictor("model.keras")(["street.jpg"])[0]
    """

    def __init__(
        self,
        model_or_path: keras.Model | Runtime | str | os.PathLike[str],
        *,
        size: Size | None = None,
        batch_size: int = 64,
        count: int | None = None,
        refine: bool = True,
        suppress: str | None = None,
        at_least: float | None = None,
        detections: int = 400,
        stored: bool = False,
    ) -> None:
        self.runtime: Any = opened_runtime(model_or_path)
        self.spec: Spec = self.runtime.spec
        fixed = self.runtime.input_size
        if fixed is None or size not in (None, fixed):
            raise UsageError(f"This network has crops of {fixed} only. Received: size={size!r}")
        self.size: Size = (int(fixed[0]), int(fixed[1]))
        recipe = recipe_of(self.spec)
        search = recipe.search.proposer()
        self._search: Any = StoredProposer(search) if stored else search
        self.batch_size = whole(batch_size, "Argument", "batch_size")
        self.count = recipe.search.count if count is None else whole(count, "Argument", "count")
        self._shapes = outputs(self.spec, self.size)
        self._rules = rules(recipe) if flag(refine, "Argument", "refine") and COARSE in self._shapes else None
        self.suppress = None if suppress is None else check_choice("suppress", suppress, SUPPRESSIONS)
        least = _LEAST_OF_SVMS if MARGINS in self._shapes else _LEAST
        self.at_least = least if at_least is None else float(Range(0, 1).check(at_least, "at_least"))
        self.detections = whole(detections, "Argument", "detections")

    def outputs(self, picture: Picture) -> Mapping[str, NDArray[Any]]:
        """Return what the network says of all N regions of one image.

        Returns:
            The network's outputs `(N, ...)`, and what was proposed: `boxes`, `order` (scores of the
            proposals), `superpixels` and `members` where there are masks, and the `size` of the image.
        """
        image = as_image(picture)
        found = self._search.find(image).first(self.count)
        cropper = Cropper(image, self.spec.normalization, self.size)
        named: dict[str, list[NDArray[Any]]] = {
            name: [np.zeros((0, *shape), np.float32)] for name, shape in self._shapes.items()
        }
        crops = functools.partial(cropper.of_proposals, found)
        for batch, real in in_batches(crops, len(found), self.batch_size):
            given = self.runtime.outputs(batch)
            for name, parts in named.items():
                parts.append(np.array(given[name][:real]))
        size = (image.shape[0], image.shape[1])
        return {**{name: np.concatenate(parts) for name, parts in named.items()}, **proposed(found, size)}

    def decide(self, outputs: Mapping[str, NDArray[Any]]) -> Detections:
        """Return the objects that `outputs` mean, each region with one class or several."""
        found = Proposals(
            boxes=outputs["boxes"],
            scores=outputs["order"],
            superpixels=outputs.get("superpixels"),
            members=outputs.get("members"),
        )
        scores = shares(outputs[LOGITS], outputs.get(MARGINS))
        chosen = _surest(self._apart(found, scores), scores, self.detections)
        kinds = np.array([kind for _, kind in chosen], np.int32)
        rows = np.array([row for row, _ in chosen], np.intp)
        sure = scores[rows, kinds]
        size = (int(outputs["size"][0]), int(outputs["size"][1]))
        boxes = None
        if MOVES in outputs:
            boxes = clipped(moved(found.boxes[rows], outputs[MOVES][rows, kinds]), size)
        if found.superpixels is None or found.members is None:
            return Detections.from_boxes(found.boxes[rows] if boxes is None else boxes, sure, kinds + 1, size)
        members = self._refined(found.superpixels, found, outputs, rows, kinds)
        return Detections.of(Masks.from_regions(found.superpixels, members), sure, kinds + 1, boxes)

    def _apart(self, found: Proposals, scores: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
        """Yield the detections that stay: proposal and class, counted without the background."""
        by = self.suppress or (REGIONS if found.has_masks else BOXES)
        for kind in range(scores.shape[1]):
            order = np.argsort(-scores[:, kind], kind="stable")
            order = order[scores[order, kind] >= self.at_least]
            stay = apart(found.regions()[1], order) if by == REGIONS else boxes_apart(found.boxes, order)
            yield from ((row, kind) for row in stay)

    def _refined(
        self,
        superpixels: NDArray[np.int32],
        found: Proposals,
        outputs: Mapping[str, NDArray[Any]],
        rows: NDArray[np.intp],
        kinds: NDArray[np.int32],
    ) -> NDArray[np.bool_]:
        """Return the superpixels of each detection, refined where that is asked for."""
        members = found.regions()[1][rows]
        if self._rules is None or not len(rows):
            return members
        areas = np.bincount(superpixels.reshape(-1), minlength=members.shape[1])
        coarse = sigmoid(outputs[COARSE][rows, kinds])
        return np.stack(
            [
                refined(
                    superpixels, areas, coarse[index], found.boxes[row], members[index], self._rules[kind]
                )
                for index, (row, kind) in enumerate(zip(rows, kinds, strict=True))
            ]
        )


def _surest(
    pairs: Iterable[tuple[int, int]], scores: NDArray[np.float32], most: int
) -> list[tuple[int, int]]:
    return sorted(pairs, key=lambda pair: -scores[pair])[:most]
