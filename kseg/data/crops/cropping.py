"""Crops for the two training stages of DeconvNet (Noh, Hong, Han, ICCV 2015, section 4): objects, proposals.

Both are sequences of `Sample`, so `Batches` augments and resizes them like images; the paper stretches each
crop to 250 x 250 (`resize="stretch"`) and takes random 224 x 224 windows of it, mirrored or not.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import Boxes, cut, iou
from kseg.boxes import enlarge as grow_boxes
from kseg.data.crops.objects import background_id, objects
from kseg.data.proposals import Propose, Proposer, checked, proposer
from kseg.data.sample import Sample, evenly
from kseg.data.threads import workers
from kseg.data.transforms.joint import Color
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.spec import Spec

# What shows a long loop: wraps its iterable.
Progress = Callable[[Iterable[Any]], Iterable[Any]]

BLACK: Color = (0, 0, 0)
PROPOSER_OPTIONS = tuple(field.name for field in dataclasses.fields(Proposer) if field.name != "method")


@dataclass(frozen=True)
class Crop:
    """Where a crop comes from.

    Args:
        sample: index of the image.
        box: `(y0, x0, y1, x1)`; may reach outside the image.
        class_id: class of the object that the crop is of.
        instance: its id in `Sample.instances`, or 0.
    """

    sample: int
    box: tuple[int, int, int, int]
    class_id: int
    instance: int


class Crops(Sequence[Sample]):
    """A sequence of crops: their places are found once, when first asked for; pixels are cut at each access.

    Args:
        samples: images with truth; `Sample.instances` are the objects where they are present, else the
            connected components of each class.
        spec: classes and ignore id of the samples.
        enlarge: of each box about its centre (1.2 in the paper).
        min_size: objects whose longer side is shorter are left out, in pixels.
        min_side: crops grow to this many pixels a side, so that a thin object keeps some surroundings and is
            not stretched beyond recognition (not in the paper, whose objects are larger; 1 turns it off).
        per_image: keep at most that many crops of an image, evenly spaced over them; None: all.
        fill: RGB colour (0-255) outside the image (black in the authors' code, before the mean is taken off).
        progress: wraps the loop over the images, to show a bar.

    Attributes:
        spec: the data's spec; crops have the same classes and ids.
        places: the crops in order, images in the order of `samples`.
        missed: names of the images that gave no crop.

    Raises:
        UsageError: if an argument is out of range.
        DataError: if there is no image, or (at first use) none of them gives a crop.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: Spec,
        *,
        enlarge: float = 1.2,
        min_size: int = 16,
        min_side: int = 32,
        per_image: int | None = None,
        fill: Color = BLACK,
        progress: Progress | None = None,
    ) -> None:
        if len(samples) == 0:
            raise DataError("There is no image to cut crops from")
        _check_least(1, min_size=min_size, min_side=min_side, per_image=per_image)
        _check_number("enlarge", enlarge)
        grow_boxes(np.zeros((0, 4)), enlarge)
        _check_color(fill)
        if progress is not None and not callable(progress):
            raise UsageError(f"Argument `progress` must wrap a loop. Received: progress={progress!r}")
        self.samples, self.spec = samples, spec
        self.enlarge, self.min_size, self.min_side = float(enlarge), int(min_size), int(min_side)
        self.per_image, self._progress = per_image, progress
        self.fill = (fill[0], fill[1], fill[2])

    def _of(self, index: int) -> list[Crop]:
        """Return the crops of one image, the most promising first."""
        raise NotImplementedError

    def _finish(self, crops: list[Crop]) -> list[Crop]:
        """Return the crops of all images as they are trained on."""
        raise NotImplementedError

    def _truth(self, sample: Sample, crop: Crop) -> NDArray[Any]:
        """Return the mask `(h, w)` of a crop."""
        raise NotImplementedError

    @functools.cached_property
    def _found(self) -> tuple[list[Crop], tuple[str, ...]]:
        crops: list[Crop] = []
        missed: list[str] = []
        numbers: Iterable[int] = range(len(self.samples))
        # Searching images releases Python's lock; a bar that wraps the numbers moves as answers come.
        with ThreadPoolExecutor(workers()) as pool:
            answers = pool.map(self._of, range(len(self.samples)))
            shown = numbers if self._progress is None else self._progress(numbers)
            for number, found in zip(shown, answers, strict=True):
                if not found:
                    missed.append(self.samples[number].name)
                crops.extend(evenly(found, self.per_image))
        return self._finish(crops), tuple(missed)

    @property
    def places(self) -> list[Crop]:
        return self._found[0]

    @property
    def missed(self) -> tuple[str, ...]:
        return self._found[1]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            part = copy.copy(self)
            part.__dict__["_found"] = (self.places[index], self.missed)
            return part
        position = range(len(self))[index]
        crop = self.places[position]
        sample = self.samples[crop.sample]
        box = np.array(crop.box)
        image = cut(sample.image, box, self.fill)
        return Sample(f"{sample.name} crop {position}", image, self._truth(sample, crop))

    def __iter__(self) -> Iterator[Sample]:
        for position in range(len(self)):
            yield self[position]

    def _mask(self, sample: Sample, crop: Crop) -> NDArray[Any]:
        """Return all classes under the crop, the ignore id outside the image."""
        mask = sample.mask
        if not np.iinfo(mask.dtype).min <= self.spec.ignore_id <= np.iinfo(mask.dtype).max:
            mask = mask.astype(np.int32)
        return cut(mask, np.array(crop.box), self.spec.ignore_id)

    def _boxes(self, boxes: Boxes) -> list[tuple[int, int, int, int]]:
        grown = grow_boxes(boxes, self.enlarge, self.min_side)
        return [(int(y0), int(x0), int(y1), int(x1)) for y0, x0, y1, x1 in grown]


class ObjectCrops(Crops):
    """Stage 1: one crop around each object; only its class is kept, the rest is background.

    A mask of a crop has at most two classes: the object's and the background. Where the data name no class
    "background", the rest is the ignore id instead. Void stays void. Arguments and errors: see `Crops`.
    """

    def _of(self, index: int) -> list[Crop]:
        found = objects(self.samples[index], self.spec, self.min_size)
        facts = zip(self._boxes(found.boxes), found.classes, found.ids, strict=True)
        return [Crop(index, box, int(class_id), int(key)) for box, class_id, key in facts]

    def _finish(self, crops: list[Crop]) -> list[Crop]:
        if not crops:
            raise DataError(
                f"None of the {len(self.samples)} images has an object with a side of at least "
                f"{self.min_size} pixels. Lower min_size, or train on whole images"
            )
        return crops

    def _truth(self, sample: Sample, crop: Crop) -> NDArray[Any]:
        mask = self._mask(sample, crop)
        kept = mask == crop.class_id
        if sample.instances is not None and crop.instance:
            # An object that another one covers in the class map is still the one of this crop.
            layers = [cut(layer, np.array(crop.box), 0) for layer in sample.instances.layers]
            kept |= np.any([layer == crop.instance for layer in layers], axis=0)
        background = background_id(self.spec)
        rest = self.spec.ignore_id if background is None else background
        truth = np.where(mask == self.spec.ignore_id, mask, mask.dtype.type(rest))
        truth[kept] = crop.class_id
        return truth


class ProposalCrops(Crops):
    """Stage 2: proposals that overlap an object, with every class under them.

    An image whose proposals all miss its objects gives no crop and is named in `missed`.

    Args:
        samples, spec: see `Crops`.
        method: `"selective-search"`, `"edge-boxes"`, or anything that gives boxes for an image; see
            `kseg.data.proposals`.
        count: proposals that are looked at per image; None: all (about 2000).
        min_iou: least intersection over union of a proposal's box with an object's, before they are enlarged.
        replicate: classes with fewer crops than the median class are repeated up to this many times, to come
            up to it; a crop counts for the class of the object that it overlaps most. The paper replicates
            rare classes and does not say how often; 1 turns it off.
        **arguments: of `Crops`, and of `kseg.data.proposals.Proposer` (quality, max_side, seed, edge_model).

    Raises:
        UsageError: if an argument is out of range.
        DataError: if there is no image, or (at first use) no proposal overlaps any object.
        MissingExtraError: if OpenCV was installed without its contrib modules.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: Spec,
        *,
        method: str | Propose = "selective-search",
        count: int | None = None,
        min_iou: float = 0.5,
        replicate: int = 4,
        **arguments: Any,
    ) -> None:
        options = {name: arguments.pop(name) for name in PROPOSER_OPTIONS if name in arguments}
        super().__init__(samples, spec, **arguments)
        _check_least(1, count=count, replicate=replicate)
        _check_number("min_iou", min_iou)
        if not 0 < min_iou <= 1:
            raise UsageError(f"Argument `min_iou` must be above 0, up to 1. Received: min_iou={min_iou!r}")
        self._count, self.min_iou, self.replicate = count, float(min_iou), int(replicate)
        self._propose = proposer(method, **options)

    def _of(self, index: int) -> list[Crop]:
        sample = self.samples[index]
        found = objects(sample, self.spec, self.min_size)
        if not len(found.boxes):
            return []
        boxes = checked(self._propose(sample.image))[: self._count]
        overlap = iou(boxes, found.boxes)
        best = overlap.argmax(axis=1)
        hits = np.flatnonzero(overlap.max(axis=1) >= self.min_iou)
        grown = self._boxes(boxes[hits])
        return [
            Crop(index, box, int(found.classes[key]), int(found.ids[key]))
            for box, key in zip(grown, best[hits], strict=True)
        ]

    def _finish(self, crops: list[Crop]) -> list[Crop]:
        if not crops:
            raise DataError(
                f"No proposal in any of the {len(self.samples)} images overlaps an object by "
                f"{self.min_iou:g}. Raise count, lower min_iou or min_size, or try the other method"
            )
        counts = np.bincount([crop.class_id for crop in crops], minlength=self.spec.num_classes)
        median = np.median(counts[counts > 0])
        times = np.ceil(median / np.maximum(counts, 1)).clip(1, self.replicate).astype(int)
        return [crop for crop in crops for _ in range(times[crop.class_id])]

    def _truth(self, sample: Sample, crop: Crop) -> NDArray[Any]:
        return self._mask(sample, crop)


KINDS: dict[str, type[Crops]] = {"objects": ObjectCrops, "proposals": ProposalCrops}


def crops(kind: str, samples: Sequence[Sample], spec: Spec, **arguments: Any) -> Crops:
    """Return `ObjectCrops` ("objects") or `ProposalCrops` ("proposals"), with their places found.

    Args:
        kind: one of `KINDS`.
        samples: images with truth.
        spec: classes and ignore id of the samples.
        **arguments: of the class.

    Raises:
        UsageError: if the kind or an argument is unknown or out of range.
        DataError: if no image gives a crop, with what to do.
    """
    if kind not in KINDS:
        raise UsageError(
            f"Crops are of {' or '.join(KINDS)}. Received: '{kind}'.{did_you_mean(str(kind), list(KINDS))}"
        )
    known = argument_names(kind)
    for name in arguments:
        if name not in (*known, "progress"):
            raise UsageError(
                f"Crops of {kind} have no argument `{name}`.{did_you_mean(name, known)} "
                f"They have: {', '.join(known)}"
            )
    result = KINDS[kind](samples, spec, **arguments)
    len(result)
    return result


def argument_names(kind: str) -> list[str]:
    """Return the names of the arguments that `crops` takes for a kind, besides samples and spec."""
    made = KINDS[kind]
    names = {name: None for base in (made, Crops) for name in inspect.signature(base).parameters}
    given = [name for name in names if name not in ("samples", "spec", "arguments", "progress")]
    return given + (list(PROPOSER_OPTIONS) if made is ProposalCrops else [])


def _check_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not _is(Integral, value) or value < least):
            raise UsageError(f"Argument `{name}` must be at least {least}. Received: {name}={value!r}")


def _check_number(name: str, value: object) -> None:
    if not _is(Real, value):
        raise UsageError(f"Argument `{name}` must be a number. Received: {name}={value!r}")


def _check_color(fill: object) -> None:
    channels = fill if isinstance(fill, Sequence) and not isinstance(fill, str) else ()
    if len(channels) != 3 or not all(_is(Integral, value) and 0 <= value <= 255 for value in channels):
        raise UsageError(f"Argument `fill` must be three whole numbers, 0 to 255. Received: fill={fill!r}")


def _is(kind: type, value: object) -> bool:
    """Whether `value` is a number of this kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)
