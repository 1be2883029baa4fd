"""Data sources: a folder, a TFDS set or the embedded sample, opened the same way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kseg.data.pictures import listing
from kseg.data.sources.coco_folder import CocoFolder
from kseg.data.sources.folder_base import Content, Folder
from kseg.data.sources.folders import PaletteLike, SemanticFolder, read_folder
from kseg.data.instances import Instances
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SAMPLES = Path(__file__).parent / "samples"


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


class Samples(Sequence[Sample]):
    """The samples of a split, decoded when indexed: `len(samples)`, `samples[i]`, iteration.

    Args:
        records: random access to encoded samples.
        decode: one of them and its index -> Sample.
        spec: the data set's spec.
        limit: keep that many, evenly spaced over the split (neighbours are often video frames);
            None keeps all.
    """

    def __init__(
        self,
        records: Sequence[Any],
        decode: Callable[[Any, int], Sample],
        spec: Spec,
        limit: int | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"Argument `limit` must be at least 1 or None. Received: limit={limit}")
        total = len(records)
        kept = total if limit is None else min(limit, total)
        self._records, self._decode, self.spec = records, decode, spec
        self._indices = [index * total // kept for index in range(kept)]

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            part = Samples(self._records, self._decode, self.spec)
            part._indices = self._indices[index]
            return part
        chosen = self._indices[index]
        return self._decode(self._records[chosen], chosen)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]


def source_label(source: str | os.PathLike[str]) -> str:
    """Return what a spec calls a source: `tfds:NAME` and `sample:NAME` as they are, a folder by its name.

    Specs travel inside model files to other people's machines; the fingerprint tells which data it was,
    and a local path is nobody's business.
    """
    text = os.fspath(source)
    if text.startswith(("tfds:", "sample:")):
        return text
    return Path(text).expanduser().resolve().name or text


def base_split(split: str) -> str:
    """Return `train` of `train[:50%]`."""
    return re.split(r"[\[+]", split, maxsplit=1)[0].strip()


class Source:
    """An opened data set.

    Attributes:
        name: what it was opened as.
        kind: `"semantic"`, `"coco"` or `"tfds"`.
        spec: classes, palette, ignore id and where the data came from.
        splits: split -> number of images.
        fingerprint: digest of the content: file names, sizes, label files and options. The same
            after a copy to another machine; another when a file is added, removed or changes size.
        folder: the listed files (None for TFDS).
    """

    name: str
    kind: str
    spec: Spec
    splits: dict[str, int]
    fingerprint: str
    folder: Folder | None = None

    def builder(self) -> tfds.core.DatasetBuilder:
        """Return the TFDS builder, made when needed: `builder.as_dataset(split="train[:50%]")` and so on."""
        raise NotImplementedError

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

    def check_split(self, split: str) -> None:
        """Raise DataError if `split` is not one of `splits`."""
        for part in split.split("+"):
            if base_split(part) not in self.splits:
                known = list(self.splits)
                raise DataError(
                    f"{printable(self.name)} has no split '{printable(base_split(part))}'."
                    f"{did_you_mean(part, known)} It has: {printable(', '.join(known))}"
                )


def open_split(
    source: Source, builder: tfds.core.DatasetBuilder, split: str, limit: int | None, instances: bool
) -> Samples:
    """Return the samples of `split` out of the builder that the cache holds for `source`."""
    from kseg.data.cache import examples

    def decode(example: Any, index: int) -> Sample:
        del index
        name, content = examples.decode_example(example)
        return Sample(name, content.image, content.mask, content.instances)

    try:
        records = examples.open_records(builder, split, instances)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise UsageError(
            f"Split '{printable(split)}' cannot be read: {printable(error, 300)}. Write for example train, "
            "train[:50%] or train[10:20]"
        ) from error
    if not len(records):
        raise DataError(f"Split '{printable(split)}' of {printable(source.name)} selects no image")
    return Samples(records, decode, source.spec, limit)


class FolderSource(Source):
    """A data folder of either layout; see `kseg.data.folders`."""

    folder: SemanticFolder | CocoFolder

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        palette: PaletteLike | None = None,
        id_map: Mapping[int, int] | None = None,
    ) -> None:
        self.folder = read_folder(path, palette, id_map)
        self.name, self.kind, self._cache = name or str(path), self.folder.kind, cache_dir
        self.splits = {split: len(items) for split, items in self.folder.items.items()}
        self.fingerprint = self.folder.fingerprint()
        self.with_instances = isinstance(self.folder, CocoFolder)
        self.spec = self.folder.spec.replace(
            data={
                "source": source_label(self.name),
                "kind": self.kind,
                "fingerprint": self.fingerprint,
                "splits": dict(self.splits),
                "instances": self.with_instances,
            }
        )
        self._builder: Any = None
        for note in self.folder.notes:
            listing.tell_once(note)
        if self.folder.special:
            listing.tell_once(listing.special_line(self.folder.special))

    def count(self, split: str) -> int:
        """Number of images in `split`."""
        return self.splits[split]

    def read(self, split: str, index: int) -> tuple[str, Content, Path | None]:
        """Read one image with its truth from the folder itself, past the cache."""
        item = self.folder.items[split][index]
        return item.name, self.folder.read(item), item.image

    def builder(self) -> tfds.core.DatasetBuilder:
        if self._builder is None:
            from kseg.data.cache import builders

            for split in self.splits:
                self.folder.check_complete(split)
            self._builder = builders.prepare(
                self,
                self.splits,
                source=str(self.folder.path),
                variant=repr(sorted(self.folder.options.items())),
                state=self.folder.state(),
                cache=self._cache,
            )
        return self._builder

    def samples(self, split: str, limit: int | None = None, *, instances: bool = True) -> Samples:
        self.check_split(split)
        return open_split(self, self.builder(), split, limit, instances)


def open(  # the name that the package exports: kseg.data.open
    source: str | os.PathLike[str] | Source,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
) -> Source:
    """Open a data set; nothing is decoded or downloaded yet.

    Args:
        source: a folder (semantic or COCO layout; of both, the label maps are read, see
            `kseg.data.folders.read_folder`); `tfds:NAME` or `tfds:NAME/CONFIG`; `sample:nuclei`; an opened
            Source is given back.
        cache_dir: where the TFDS form of a folder is kept. Default: `$KSEG_CACHE` or `~/.cache/kseg`.
        data_dir: where TFDS keeps its own sets. Default: TFDS' (`~/tensorflow_datasets`).
        palette: for colour-coded masks: a `Palette`, RGB colours in class order, {(r, g, b): id},
            or a palette file.
        id_map: {id in the files: class id}, for masks whose ids are not 0..C-1.

    Raises:
        DataError: with what is wrong and what to do, in one line.

    Example:
        >>> source = kseg.data.open("sample:nuclei")
        >>> source.spec.classes
        ('background', 'nucleus')
    """
    if isinstance(source, Source):
        return source
    text = os.fspath(source)
    if text.startswith("tfds:"):
        from kseg.data.sources.tfds_sets import TfdsSource

        if palette is not None:
            raise UsageError("`palette` is for folders; TFDS masks hold ids (use id_map)")
        return TfdsSource(text.removeprefix("tfds:"), data_dir=data_dir, cache_dir=cache_dir, id_map=id_map)
    if text.startswith("sample:"):
        name = text.removeprefix("sample:")
        known = sorted(entry.name for entry in SAMPLES.iterdir() if (entry / "images").is_dir())
        if name not in known:
            raise UsageError(
                f"There is no embedded sample '{printable(name)}'.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}"
            )
        return FolderSource(SAMPLES / name, name=text, cache_dir=cache_dir)
    return FolderSource(source, cache_dir=cache_dir, palette=palette, id_map=id_map)
