"""From a reader to a kseg folder: label maps, images, `classes.json`; a whole folder or none."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kseg import files
from kseg.data.convert import splits
from kseg.data.convert.base import Format, Picture
from kseg.data.counting.counts import ClassCounts, id_counts
from kseg.data.pictures.images import decode_framed
from kseg.data.pictures.orientation import UPRIGHT, Drawn, Frame
from kseg.data.threads import parallel
from kseg.errors import DataError, UsageError
from kseg.progress import Progress, silent

LINKS = ("copy", "hard", "symlink")
_POOL = ".labels"


@dataclass
class Conversion:
    """What was converted.

    Attributes:
        out: the new folder.
        format: the format that was read.
        kind: `"semantic"` or `"coco"`.
        classes: names in order of id.
        counts: split -> images and pixels per class.
        dropped: what is left out because a label map cannot say it -> how often.
        bad: messages about images left out by `skip_bad`.
        notes: sentences on what was decided.
    """

    out: Path
    format: str
    kind: str
    classes: tuple[str, ...]
    counts: dict[str, ClassCounts]
    dropped: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return {
            "out": str(self.out),
            "format": self.format,
            "kind": self.kind,
            "classes": list(self.classes),
            "splits": {
                name: {
                    "images": counts.images,
                    "pixels": dict(zip(self.classes, counts.pixels.tolist(), strict=True)),
                    "void": counts.void,
                }
                for name, counts in self.counts.items()
            },
            "dropped": self.dropped,
            "bad": self.bad,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Done:
    """A picture whose label map lies in the pool.

    Args:
        turned: whether its EXIF tag turns it.
        drawn: how its truth lies on it, if turned, where their sizes tell.
    """

    picture: Picture
    label: Path | None
    counts: dict[int, int]
    turned: bool
    drawn: Drawn | None


def free_folder(out: str | os.PathLike[str], source: Path) -> Path:
    """Return `out` as a path, or refuse one that holds something or is the source.

    Raises:
        UsageError: if it is not free.
    """
    path = Path(out).expanduser().absolute()
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"The folder {path} is not empty; nothing is overwritten. Give another, or remove it"
        )
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file. Give a folder")
    if files.resolved(path) == source:
        raise UsageError(f"{path} is the data itself. Give another folder")
    return path


def write(
    reader: Format,
    out: Path,
    *,
    shares: tuple[float, ...] | None,
    seed: int,
    group_by: str | None,
    link: str,
    progress: Progress | None,
) -> Conversion:
    """Write what `reader` has read to `out`; arguments as in `kseg.data.convert` (`shares`: its `split`)."""
    as_instances = reader.keeps_instances
    _check_names(reader.pictures)
    with files.atomic(out) as temporary:
        pool = temporary / _POOL
        pool.mkdir(parents=True)
        done = _label_all(reader, pool, as_instances, progress)
        places, notes = _places(reader, done, shares, seed, group_by)
        drawn, told = _drawn(reader, done)
        notes += told
        counts = _count(reader, done, places)
        for split in [name for name, entry in counts.items() if not entry.valid]:
            notes.append(
                f"{split} ({counts[split].images} images) is left out: its truth is nothing but void"
            )
            del counts[split]
        if not counts:
            raise DataError(f"{reader.root}: there is no labelled pixel in any image; nothing was written")
        listed: dict[str, list[tuple[Picture, str]]] = defaultdict(list)
        for entry, (split, name) in zip(done, places, strict=True):
            if split not in counts:
                continue
            file_name = f"{name}{entry.picture.suffix}"
            _put_image(entry.picture, temporary / "images" / split / file_name, link)
            listed[split].append((entry.picture, file_name))
            if entry.label is not None:
                target = temporary / "labels" / split / f"{name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(entry.label, target)
        shutil.rmtree(pool)
        if as_instances:
            for split, pictures in listed.items():
                (temporary / f"instances_{split}.json").write_bytes(reader.instances_json(pictures, drawn))
        else:
            _write_classes(reader, temporary, drawn)
    kind = "coco" if as_instances else "semantic"
    dropped = {what: count for what, count in reader.dropped.items() if count}
    return Conversion(out, reader.name, kind, reader.classes, counts, dropped, reader.bad, notes)


def _check_names(pictures: Sequence[Picture]) -> None:
    """Refuse two images of one name in one split: names without suffix pair an image with its label."""
    seen: dict[tuple[str | None, str], Picture] = {}
    for picture in pictures:
        other = seen.setdefault((picture.split, picture.name), picture)
        if other is not picture:
            raise DataError(
                f"Two images would have the name '{picture.name}': {other.source} and {picture.source}. "
                "Rename or remove one"
            )


def _label_all(reader: Format, pool: Path, as_instances: bool, progress: Progress | None) -> list[_Done]:
    """Read every image with its truth; label maps go to `pool` until their splits are known."""

    def one(numbered: tuple[int, Picture]) -> _Done | DataError:
        number, picture = numbered
        try:
            frame = _frame(picture)
            size, stored = frame.shown, frame.stored
            try:
                label = reader.label(picture, size)
            except DataError:
                # Drawn on the pixels as stored, although the image has an EXIF turn: kseg's reader decides.
                if stored == size:
                    raise
                label = reader.label(picture, stored)
            if label.shape not in (size, stored):
                raise DataError(
                    f"'{picture.where}' is {label.shape[0]}x{label.shape[1]}, its image {picture.source} "
                    f"{size[0]}x{size[1]} (height x width)"
                )
        except DataError as error:
            if not reader.options.skip_bad:
                raise
            return error
        target = None
        if not as_instances:
            target = pool / f"{number}.png"
            Image.fromarray(label.astype(np.uint8 if reader.void <= 255 else np.uint16)).save(target)
        turned = frame.orientation != UPRIGHT
        drawn: Drawn | None = None
        if turned and size != stored:
            drawn = "as_shown" if label.shape == size else "as_stored"
        return _Done(picture, target, id_counts(label), turned, drawn)

    total = len(reader.pictures)
    results = parallel(one, enumerate(reader.pictures))
    done = []
    for result in (progress or silent)(results, total, "converting images"):
        if isinstance(result, DataError):
            reader.bad.append(str(result))
        else:
            done.append(result)
    if not done:
        raise DataError(
            f"{reader.root} has no image with a label that can be read. "
            f"{f'The first fault: {reader.bad[0]}' if reader.bad else f'Expected: {reader.layout}'}"
        )
    return done


def _frame(picture: Picture) -> Frame:
    """Decode the image, as a whole one only is converted; return how it lies in its file."""
    data = picture.embedded
    if data is None:
        try:
            data = Path(picture.source).read_bytes()
        except OSError as error:
            raise DataError(f"'{picture.source}' cannot be read: {error.strerror or error}") from error
    return decode_framed(data, picture.source)[1]


def _drawn(reader: Format, done: Sequence[_Done]) -> tuple[Drawn | None, list[str]]:
    """Return how truths lie on images that are turned by their EXIF tag, and sentences on that.

    The format says it, or all images whose sizes tell say the same; then it holds for the others too.
    """
    turned = [entry for entry in done if entry.turned]
    if not turned:
        return None, []
    notes = [f"{len(turned)} images are turned by their EXIF tag; they are kept as they are, tag and all"]
    told = {entry.drawn for entry in turned if entry.drawn is not None}
    drawn = reader.drawn or (told.pop() if len(told) == 1 else None)
    unknown = sum(entry.drawn is None for entry in turned)
    if drawn is None and unknown:
        notes.append(
            f"nothing tells whether the truth of {unknown} of them is turned too: write "
            '"mask_orientation": "as_shown" or "as_stored" where `kseg check-data` says'
        )
    return drawn, notes


def _places(
    reader: Format, done: Sequence[_Done], shares: tuple[float, ...] | None, seed: int, group_by: str | None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (split, name) of every picture, and sentences on how that was decided."""
    known = [entry.picture.split for entry in done]
    without = sum(split is None for split in known)
    if shares is None and group_by is None and not without:
        return [(str(entry.picture.split), entry.picture.name) for entry in done], []
    if shares is None and without != len(done):
        if group_by is not None and not without:
            raise UsageError("The data has splits, which are kept: give `split` as well to divide it anew")
        raise DataError(
            f"{reader.root}: {without} of {len(done)} images belong to no split, such as "
            f"{done[known.index(None)].picture.source}. Divide all anew by split (--split 80/10/10)"
        )
    names = [entry.picture.name for entry in done]
    if len(set(names)) < len(names):  # one name in two splits
        names = [f"{entry.picture.split}/{entry.picture.name}" for entry in done]
    contents = [frozenset(index for index in entry.counts if index != reader.void) for entry in done]
    division = splits.divide(
        names, contents, shares or splits.parse(splits.DEFAULT), seed=seed, pattern=group_by
    )
    notes = [f"split by seed {seed}: {division.note}"]
    if without != len(done):
        notes.append("the splits that the data had were given up, as asked")
    absent = _absent(contents, division.splits)
    if absent:
        notes.append(
            f"train lacks {', '.join(reader.classes[index] for index in sorted(absent))}: too few groups"
        )
    return list(zip(division.splits, names, strict=True)), notes


def _absent(contents: Sequence[frozenset[int]], places: Sequence[str]) -> set[int]:
    """Return the classes that occur, but not in train."""
    inside = [found for found, split in zip(contents, places, strict=True) if split == splits.NAMES[0]]
    return set(frozenset().union(*contents)) - set(frozenset().union(*inside))


def _count(
    reader: Format, done: Sequence[_Done], places: Sequence[tuple[str, str]]
) -> dict[str, ClassCounts]:
    images = Counter(split for split, _ in places)
    order = sorted(images, key=lambda name: (splits.NAMES.index(name) if name in splits.NAMES else 9, name))
    counts = {split: ClassCounts(len(reader.classes), reader.void) for split in order}
    for entry, (split, _) in zip(done, places, strict=True):
        counts[split].add(entry.counts)
    return counts


def _put_image(picture: Picture, target: Path, link: str) -> None:
    """Copy or link an image; its bytes stay as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.image is None:
        target.write_bytes(picture.embedded or b"")
    elif link == "symlink":
        target.symlink_to(picture.image.resolve())
    elif link == "hard":
        try:
            os.link(picture.image.resolve(), target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise UsageError(
                f"A hard link cannot lead to another file system ({picture.image}). "
                "Give link='symlink' or 'copy'"
            ) from error
    else:
        shutil.copyfile(picture.image, target)


def _write_classes(reader: Format, folder: Path, drawn: Drawn | None) -> None:
    values: dict[str, Any] = {"classes": list(reader.classes), "void_id": reader.void}
    if reader.colors:
        values["palette"] = [list(color) for color in reader.colors]
    if drawn is not None:
        values["mask_orientation"] = drawn
    (folder / "classes.json").write_text(
        json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
