"""One image with its truth, and the sequence of those of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from kseg.data.instances import Instances
from kseg.errors import UsageError
from kseg.spec import Spec

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One image with its truth.

    Args:
        name: unique within the split.
        image: uint8 (H, W, 3) RGB.
        mask: class ids (H, W), uint8 (int32 beyond 255 classes); void is `spec.ignore_id`.
        instances: see `kseg.data.instances.Instances`; None where the source has none.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    instances: Instances | None = None


@dataclass(frozen=True)
class Outline:
    """What can be told of a sample without its pixels.

    Args:
        name: of the sample.
        size: (height, width) of its image.
        crowd: bool (N,), which of its instances are crowds; None where the source has no instances.
    """

    name: str
    size: tuple[int, int]
    crowd: np.ndarray | None

    @classmethod
    def of(cls, sample: Sample) -> Outline:
        """Return that of a decoded sample."""
        size = int(sample.image.shape[0]), int(sample.image.shape[1])
        return cls(sample.name, size, None if sample.instances is None else sample.instances.crowd)


class Samples(Sequence[Sample]):
    """The samples of a split, decoded when indexed: `len(samples)`, `samples[i]`, iteration.

    Args:
        records: random access to encoded samples.
        decode: one of them and its index -> Sample.
        spec: the data set's spec.
        limit: keep that many, evenly spaced over the split (neighbours are often video frames);
            None keeps all.
        decode_mask: one of the records -> its class map alone; None: that of the decoded sample.
        outline: one of the records -> its `Outline`; None: that of the decoded sample.
    """

    def __init__(
        self,
        records: Sequence[Any],
        decode: Callable[[Any, int], Sample],
        spec: Spec,
        limit: int | None = None,
        decode_mask: Callable[[Any], np.ndarray] | None = None,
        outline: Callable[[Any], Outline] | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"Argument `limit` must be at least 1 or None. Received: limit={limit}")
        self._records, self._decode = records, decode
        self._decode_mask, self._outline = decode_mask, outline
        self.spec = spec
        self._indices = evenly(range(len(records)), limit)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            part = Samples(
                self._records,
                self._decode,
                self.spec,
                decode_mask=self._decode_mask,
                outline=self._outline,
            )
            part._indices = self._indices[index]
            return part
        chosen = self._indices[index]
        return self._decode(self._records[chosen], chosen)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def mask(self, index: int) -> np.ndarray:
        """Return the class map of one sample without decoding its image, where the format allows that."""
        if self._decode_mask is None:
            return self[index].mask
        return self._decode_mask(self._records[self._indices[index]])

    def outline(self, index: int) -> Outline:
        """Return what is known of one sample without decoding its pixels, where the format allows that."""
        if self._outline is None:
            return Outline.of(self[index])
        return self._outline(self._records[self._indices[index]])


class Mapped(Sequence[Any]):
    """`function(item)` of each item, when it is indexed."""

    def __init__(self, function: Callable[[T], Any], items: Sequence[T]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._function(self._items[index])


def masks_of(samples: Sequence[Sample]) -> Sequence[np.ndarray]:
    """Return the class maps of samples, read when indexed; `Samples` leave their images undecoded."""
    if isinstance(samples, Samples):
        return Mapped(samples.mask, range(len(samples)))
    return Mapped(lambda sample: sample.mask, samples)


def outlines_of(samples: Sequence[Sample]) -> Sequence[Outline]:
    """Return the outlines of samples, read when indexed; `Samples` leave their pixels undecoded."""
    if isinstance(samples, Samples):
        return Mapped(samples.outline, range(len(samples)))
    return Mapped(Outline.of, samples)


def evenly(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, evenly spaced over all of them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]
