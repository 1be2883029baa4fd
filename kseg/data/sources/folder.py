"""What the layouts of a data folder share: items, the digests of them, and samples through the cache.

Opening a folder lists files and reads the small JSON files only; no image is decoded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kseg import files
from kseg.data.coco.records import Annotation
from kseg.data.pictures import listing
from kseg.data.pictures.orientation import Drawn
from kseg.data.sample import Mapped, Sample, Samples, evenly
from kseg.data.sources.source import Options, Source
from kseg.errors import DataError
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

LAYOUT = (
    "images/SPLIT/ID.jpg with labels/SPLIT/ID.png and classes.json, or images/SPLIT/ID.jpg with "
    "instances_SPLIT.json (COCO)"
)


@dataclass(frozen=True)
class Item:
    """One image on disk.

    Args:
        name: path below `images/SPLIT` without suffix.
        image: the image file.
        label: the label file of a semantic folder; None where there is none.
        annotations: COCO records of an instance folder.
        size: (H, W) that the COCO file states; None in a semantic folder.
        drawn: whether the truth lies on the picture as shown or as stored, where the data says so.
    """

    name: str
    image: Path
    label: Path | None = None
    annotations: tuple[Annotation, ...] = ()
    size: tuple[int, int] | None = None
    drawn: Drawn | None = None


class FolderSource(Source):
    """A data folder of either layout.

    Attributes:
        path: the folder.
        base_spec: its Spec before `data` is filled in: void is mapped to its ignore id (255; 65535 beyond 255
            classes).
        items: split -> its images in name order; a split without any is none of `splits`.
        content: what changes the content besides the files (palette, id map).
        described_by: the files that say what ids and annotations mean.
        special: files that are left out because they are no regular files.
    """

    path: Path
    base_spec: Spec
    items: Mapping[str, tuple[Item, ...]]
    content: dict[str, Any]
    described_by: Sequence[Path]
    special: Sequence[Path] = ()
    _cache_dir: Any = None

    def _place(self, place: str | Path, options: Options) -> Path:
        """Take name, path and cache; to be called first."""
        self.name, self._cache_dir = str(place), options.cache_dir
        self.path = files.resolved(place)
        return self.path

    def read(self, item: Item) -> Sample:
        """Read one item; ids in the mask are final (void is `spec.ignore_id`)."""
        raise NotImplementedError

    def read_mask(self, item: Item) -> np.ndarray:
        """Read the class map of one item, as its image is shown, without its pixels."""
        raise NotImplementedError

    def check_complete(self, split: str) -> None:
        """Raise DataError if an image of `split` has no label or is missing."""
        raise NotImplementedError

    @functools.cached_property
    def splits(self) -> dict[str, int]:  # type: ignore[override]
        return {split: len(items) for split, items in self.items.items() if items}

    @functools.cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        return self._digest(exact=False)

    @functools.cached_property
    def spec(self) -> Spec:  # type: ignore[override]
        return self.base_spec.replace(data=self.data_record())

    def refuse(self) -> None:
        """Raise DataError if no split has an image."""
        if not self.splits:
            raise DataError(
                f"{printable(self.path)} has no images: every folder in {printable(self.path / 'images')} is "
                f"empty. Expected: {LAYOUT}"
            )

    def remarks(self) -> list[str]:
        return [*super().remarks(), *([listing.special_line(self.special)] if self.special else [])]

    def stored(self, split: str, index: int) -> tuple[Sample, Path | None]:
        """Read one sample from the folder itself, for the cache, and name its image file."""
        item = self.items[split][index]
        return self.read(item), item.image

    def builder(self) -> tfds.core.DatasetBuilder:
        return self._builder

    @functools.cached_property
    def _builder(self) -> tfds.core.DatasetBuilder:
        from kseg.data.cache import builders

        for split in self.splits:
            self.check_complete(split)
        return builders.prepare(
            self,
            self.splits,
            source=str(self.path),
            variant=repr(sorted(self.content.items())),
            state=self._digest(exact=True),
            cache=self._cache_dir,
        )

    def samples(self, split: str, limit: int | None = None, *, instances: bool = True) -> Samples:
        from kseg.data.cache import examples

        self.check_split(split)
        return examples.open_samples(self.builder(), split, self.spec, limit, instances, self.name)

    def masks(self, split: str, limit: int | None = None) -> Sequence[np.ndarray]:
        """Return the class maps of a split straight from their files: no image is read, no cache made."""
        self.check_split(split)
        if split not in self.items:
            return super().masks(split, limit)
        self.check_complete(split)
        return Mapped(self.read_mask, evenly(self.items[split], limit))

    def _digest(self, exact: bool) -> str:
        """Return a digest of names, sizes, JSON content and options: the same after a copy or a clone.

        Args:
            exact: also of each file's time and place: the key of the cache.
        """
        digest = hashlib.sha256()
        for path in self.described_by:
            digest.update(path.read_bytes())
        digest.update(repr(sorted(self.content.items())).encode())
        if exact:
            digest.update(str(self.path).encode())
        for split, items in self.items.items():
            for item in items:
                for file in (item.image, item.label):
                    try:
                        stat = None if file is None else file.stat()
                    except OSError:
                        stat = None  # missing, or with a name that no system could store: refused later
                    if file is None or stat is None:
                        continue
                    entry = (split, item.name, file.suffix, stat.st_size, stat.st_mtime_ns if exact else 0)
                    digest.update(repr(entry).encode())
        return digest.hexdigest()[:16]
