"""The surface of a source of data: what every format that `kseg.data.open` opens has."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kseg import files
from kseg.data.pictures.palette import PaletteLike
from kseg.data.sample import Samples, masks_of
from kseg.errors import DataError, did_you_mean
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclass(frozen=True)
class Options:
    """How a source is to be opened; what the arguments mean: see `kseg.data.open`."""

    cache_dir: str | os.PathLike[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    palette: PaletteLike | None = None
    id_map: Mapping[int, int] | None = None


NO_OPTIONS = Options()


class Source:
    """An opened data set. A format is one subclass and one row of `kseg.data.sources.formats.FORMATS`.

    It is made by `Format(place, options)`: `place` is what stands behind the format's name in `NAME:PLACE`,
    of a folder its path; `options` are `Options`, of which a format refuses those that mean nothing to it.
    That sets the attributes and decodes nothing. With `samples` the rest follows.

    Attributes:
        kind: the format's name.
        checked_by: the function that `kseg.data.check` reads it with, `(source, limit, progress) -> Report`,
            as `module:name`; the default goes through `samples`.
        name: what it was opened as.
        spec: classes, palette, ignore id and, as `spec.data`, where the data came from (see `data_record`).
        splits: split -> number of images.
        fingerprint: digest of the content: file names, sizes, label files and options. The same
            after a copy to another machine; another when a file is added, removed or changes size.
        with_instances: whether samples have instances.
        notes: what the user should know of how it is read: code, as in `kseg.data.Report` -> one line.
    """

    kind: ClassVar[str]
    checked_by: ClassVar[str] = "kseg.data.checking.by_samples:check_samples"
    name: str
    spec: Spec
    splits: dict[str, int]
    fingerprint: str
    with_instances: bool = False
    notes: Mapping[str, str] = MappingProxyType({})

    def samples(self, split: str, limit: int | None = None, *, instances: bool = True) -> Samples:
        """Return the samples of a split in name order.

        Args:
            split: a name in `splits`, or a TFDS slice of it such as `train[:50%]`.
            limit: keep at most that many, evenly spaced.
            instances: False leaves the instances undecoded (`sample.instances` is None): faster.

        Raises:
            DataError: unknown split, images without labels, unreadable files, ids out of range.
        """
        raise NotImplementedError

    def masks(self, split: str, limit: int | None = None) -> Sequence[np.ndarray]:
        """Return the class maps of a split, read when indexed; images are not decoded where that can be."""
        return masks_of(self.samples(split, limit, instances=False))

    def builder(self) -> tfds.core.DatasetBuilder:
        """Return the TFDS builder, made when needed: `builder.as_dataset(split="train[:50%]")` and so on."""
        raise DataError(f"{printable(self.name)} has no TFDS builder: take its `samples`")

    def refuse(self) -> None:
        """Raise DataError for what was found at opening and cannot be trained on; a check reports it."""

    def remarks(self) -> list[str]:
        """Return what is printed, once, when it is opened."""
        return list(self.notes.values())

    def check_split(self, split: str) -> None:
        """Raise DataError if `split` is not one of `splits`."""
        for part in split.split("+"):
            if base_split(part) not in self.splits:
                known = list(self.splits)
                raise DataError(
                    f"{printable(self.name)} has no split '{printable(base_split(part))}'."
                    f"{did_you_mean(part, known)} It has: {printable(', '.join(known))}"
                )

    def data_record(self, **more: Any) -> dict[str, Any]:
        """Return what `spec.data` says of this source; `more` goes before the fingerprint."""
        return {
            "source": source_label(self.name),
            "kind": self.kind,
            **more,
            "fingerprint": self.fingerprint,
            "splits": dict(self.splits),
            "instances": self.with_instances,
        }


def source_label(source: str | os.PathLike[str]) -> str:
    """Return what a spec calls a source: `tfds:NAME` and `sample:NAME` as they are, a folder by its name.

    Specs travel inside model files to other people's machines; the fingerprint tells which data it was,
    and a local path is nobody's business.
    """
    text = os.fspath(source)
    if text.startswith(("tfds:", "sample:")):
        return text
    return files.resolved(text).name or text


def base_split(split: str) -> str:
    """Return `train` of `train[:50%]`."""
    return re.split(r"[\[+]", split, maxsplit=1)[0].strip()
