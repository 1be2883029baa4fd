"""What both layouts of a data folder share: its items, their content, and the digests of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kseg.data.coco.records import Annotation
from kseg.data.instances import Instances
from kseg.data.pictures.orientation import Drawn
from kseg.spec import Spec


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


@dataclass(frozen=True)
class Content:
    """What one item holds once read: image uint8 (H, W, 3) RGB, mask (H, W) of final class ids."""

    image: np.ndarray
    mask: np.ndarray
    instances: Instances | None = None


def ignore_id(num_classes: int) -> int:
    """Return the id that void is mapped to: 255, or 65535 beyond 255 classes."""
    return 255 if num_classes <= 255 else 65535


@dataclass
class Folder:
    """A data folder of either layout.

    Attributes:
        path: the folder.
        spec: classes, palette, ignore id (255; 65535 beyond 255 classes). Void is mapped to it.
        items: split -> its images in name order.
        kind: `"semantic"` or `"coco"`.
        options: what changes the content besides the files (palette, id map).
        notes: what the user should know of how the folder is read, one line each.
        special: files that are left out because they are no regular files.
    """

    path: Path
    spec: Spec
    items: dict[str, tuple[Item, ...]]
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    special: tuple[Path, ...] = ()

    def read(self, item: Item) -> Content:
        """Read one item; ids in the mask are final (void is `spec.ignore_id`)."""
        raise NotImplementedError

    def check_complete(self, split: str) -> None:
        """Raise DataError if an image of `split` has no label or is missing."""
        raise NotImplementedError

    def _described_by(self) -> list[Path]:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a digest of names, sizes, JSON content and options: the same after a copy or a clone."""
        return self._digest(exact=False)

    def state(self) -> str:
        """Return a digest that also changes with any file's time or place: the key of the cache."""
        return self._digest(exact=True)

    def _digest(self, exact: bool) -> str:
        digest = hashlib.sha256()
        for path in self._described_by():
            digest.update(path.read_bytes())
        digest.update(repr(sorted(self.options.items())).encode())
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
