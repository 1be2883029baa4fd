"""Predictor: images of any size in, the objects in them out, whatever runs the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import sides
from kseg.checks import SHARE, check_choice, pair, whole
from kseg.data.detections import Detections
from kseg.data.run_lengths import Masks
from kseg.data.transforms.normalize import fill_color, preprocess
from kseg.errors import ArtefactError, UsageError
from kseg.inference.pictures import Picture, as_image
from kseg.inference.runtime import Runtime, opened_runtime
from kseg.instance.joining import Piece, objects
from kseg.instance.object_finder import ObjectFinder
from kseg.instance.outputs import BOXES, CLASSES, MASKS, SCORES
from kseg.instance.windows import Window, seen_better, windows
from kseg.spec import RESIZE_RULES, Spec

if TYPE_CHECKING:
    import keras

Size = tuple[int, int]
# A pixel belongs to an object from this probability on.
INSIDE = 0.5


class InstancePredictor(ObjectFinder):
    """Find the objects of images of any size with a network in memory or any model file that kseg wrote.

    The Spec's resize rule says how an image meets the network's size: `"none"` runs native pixels (small
    images are padded, large ones are seen through windows that overlap, and what two windows see is one
    object, joined from its pieces where no window shows it whole), `"stretch"` resizes both sides, `"fit"`
    keeps the aspect ratio and pads.

    Args:
        model_or_path: a Keras model with `.spec`, a runtime, or the path of a model file.
        size: `(height, width)` at which the network is run. Default: the artefact's, else `spec.input_size`.
        resize: `"none"`, `"stretch"` or `"fit"`; default: the Spec's rule.
        overlap: share of a window that neighbours have in common: pieces of larger objects are joined, by
            what they agree on there.
        batch_size: windows that the network is given at once.

    Raises:
        UsageError: if an argument is out of range or does not fit the artefact, or nobody says a size.
        ArtefactError: if the file is missing, damaged or not ours; in a call, if the network gives numbers
            that are not finite, or classes that its spec does not have.

    Example:
        >>> found = InstancePredictor("model.keras")(["cells.png"])[0]
        >>> found.boxes.shape, found.mask(0).shape
        ((57, 4), (520, 696))
    """

    def __init__(
        self,
        model_or_path: keras.Model | Runtime | str | os.PathLike[str],
        *,
        size: Size | None = None,
        resize: str | None = None,
        overlap: float = 0.25,
        batch_size: int = 1,
    ) -> None:
        self.runtime: Any = opened_runtime(model_or_path)
        self.spec: Spec = self.runtime.spec
        self.resize = check_choice("resize", self.spec.resize if resize is None else resize, RESIZE_RULES)
        fixed = self.runtime.input_size
        size = None if size is None else pair(size, "Argument", "size")
        if fixed is not None and size not in (None, fixed):
            raise UsageError(f"This file runs at {fixed[0]}x{fixed[1]} only. Received: size={size!r}")
        found = fixed or size or self.spec.input_size
        if found is None:
            raise UsageError("Nobody says at which size the network is run: give `size` (height, width)")
        self.size: Size = (int(found[0]), int(found[1]))
        self.overlap = float(SHARE.check(overlap, "overlap"))
        self.batch_size = whole(batch_size, "Argument", "batch_size")

    def outputs(self, picture: Picture) -> Mapping[str, NDArray[Any]]:
        """Return what the network says of all windows of one image.

        Returns:
            `boxes` `(N, 4)` in pixels of the image, `scores`, `classes`, `masks` `(N, m, m)`, the `window`
            that each was seen through, a box too, `(N, 4)`, and the `size` of the image.
        """
        image = as_image(picture)
        fill = fill_color(self.spec.normalization)
        seen = list(windows(image, self.size, self.resize, self.overlap, fill))
        found: dict[str, list[NDArray[Any]]] = {
            name: [] for name in (BOXES, SCORES, CLASSES, MASKS, "window")
        }
        for window, given in zip(seen, self._run(seen), strict=True):
            found[BOXES].append(window.in_image(given[BOXES]))
            found[SCORES].append(given[SCORES].astype(np.float32))
            found[CLASSES].append(np.rint(given[CLASSES]).astype(np.int32))
            found[MASKS].append(given[MASKS])
            found["window"].append(np.tile(np.asarray(window.box, np.int32), (len(given[BOXES]), 1)))
        joined = {name: np.concatenate(parts) for name, parts in found.items()}
        return {**joined, "size": np.asarray(image.shape[:2], np.int32)}

    def _run(self, seen: list[Window]) -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(seen), self.batch_size):
            part = seen[start : start + self.batch_size]
            batch = np.stack([preprocess(window.pixels, self.spec.normalization) for window in part])
            given = self._sound(self.runtime.outputs(batch))
            for row in range(len(part)):
                yield {name: np.asarray(values[row]) for name, values in given.items()}

    def _sound(self, given: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        """Return what the network said; refuse what no whole network of this spec says."""
        for name, values in given.items():
            if not np.isfinite(values).all():
                raise ArtefactError(
                    f"The network gives {name} that are no finite numbers: its weights are damaged, or the "
                    "training that made them diverged"
                )
        highest, classes = int(given[CLASSES].max(initial=0)), self.spec.num_classes
        if highest >= classes:
            raise ArtefactError(
                f"The network says class {highest}, and its spec has {classes} classes (0 to {classes - 1}): "
                "the spec is another network's. Export or save it again"
            )
        return given

    def decide(self, outputs: Mapping[str, NDArray[Any]]) -> Detections:
        """Return the objects that `outputs` mean: each one once, its mask at the image's size."""
        size = int(outputs["size"][0]), int(outputs["size"][1])
        views, pieces = outputs["window"], []
        boxes = np.clip(outputs[BOXES], np.tile(views[:, :2], 2), np.tile(views[:, 2:], 2)).astype(np.float32)
        real = (outputs[SCORES] > 0) & (outputs[CLASSES] > 0) & ~seen_better(boxes, views, size)
        for index in np.flatnonzero(real):
            corner, (height, width) = np.tile(views[index, :2], 2), sides(views[index])
            mask, place = pasted(outputs[MASKS][index], outputs[BOXES][index] - corner, (height, width))
            if mask.any():
                score, kind = float(outputs[SCORES][index]), int(outputs[CLASSES][index])
                pieces.append(
                    Piece(boxes[index], score, kind, mask, np.asarray(place) + corner, views[index])
                )
        found = objects(pieces, size)
        places = np.asarray([each.place for each in found], np.int32).reshape(-1, 4)
        masks = Masks.from_crops([each.mask for each in found], places, size)
        scores, kinds = [each.score for each in found], [each.kind for each in found]
        return Detections.of(masks, scores, kinds, [each.box for each in found])


def pasted(
    mask: NDArray[np.float32], box: NDArray[np.float32], size: Size
) -> tuple[NDArray[np.bool_], tuple[int, int, int, int]]:
    """Return a mask `(m, m)` of probabilities over a box as pixels of the image, and the pixels' box."""
    values, window = spread(mask, box, size)
    return values >= INSIDE, window


def spread(
    mask: NDArray[np.floating], box: NDArray[np.floating], size: Size
) -> tuple[NDArray[Any], tuple[int, int, int, int]]:
    """Return the values of a grid `(m, m)` over a box at the pixels of the image, and the pixels' box.

    A pixel takes the bilinear value at its centre; cells of the grid have their centres at +0.5. What of the
    box lies outside the image is left out.
    """
    low = np.maximum(np.floor(box[:2]).astype(int), 0)
    high = np.maximum(np.minimum(np.ceil(box[2:]).astype(int), size), low)
    weights = [
        _weights(np.arange(low[axis], high[axis]) + 0.5, box[axis], box[axis + 2], mask.shape[axis])
        for axis in (0, 1)
    ]
    return weights[0] @ mask @ weights[1].T, (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _weights(centres: NDArray[Any], low: float, high: float, cells: int) -> NDArray[np.float32]:
    """Return `(pixels, cells)`: bilinear weights of a grid over `low`..`high` at pixel centres; 0 outside."""
    share = (centres - low) / max(high - low, 1e-6)
    places = np.clip(share * cells - 0.5, 0, cells - 1)
    tent = np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0)
    return (tent * ((share >= 0) & (share <= 1))[:, None]).astype(np.float32)
