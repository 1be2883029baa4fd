"""What the readers of foreign formats share: pictures, classes, files on disk, what is left out and why."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kseg.data.ids import ignore_id
from kseg.data.pictures.images import IMAGE_SUFFIXES
from kseg.data.pictures.orientation import Drawn
from kseg.data.pictures.palette import VOID_NAMES, Color
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.text import printable

BACKGROUND = "background"
_BACKGROUND_NAMES = ("background", "_background_", "__background__")
_VOID_NAMES = (*VOID_NAMES, "__ignore__")
_SPLITS = {"train": "train", "val": "val", "test": "test"}
_MOST_LISTED = 8


@dataclass(frozen=True)
class Options:
    """What the user may ask of a reader.

    Args:
        classes: names in order of id, instead of the format's own list.
        unlabeled: what pixels are on which nothing was drawn: `"background"` (class 0) or `"void"`.
        semantic: paint instances into label maps.
        skip_bad: leave out what cannot be read, and go on.
    """

    classes: tuple[str, ...] | None = None
    unlabeled: str = BACKGROUND
    semantic: bool = False
    skip_bad: bool = False


@dataclass(frozen=True)
class Picture:
    """One image with its truth, not read yet.

    Args:
        name: its name in the new folder, without suffix; may hold folders.
        image: the image file; None when `embedded` holds it.
        truth: what the reader's `label` needs.
        where: the file that holds the truth, for messages.
        split: train, val, test or another folder's name; None where the format does not say.
        embedded: bytes of an image that the annotation file itself carries.
        suffix: of the image in the new folder.
    """

    name: str
    image: Path | None
    truth: Any
    where: str
    split: str | None = None
    embedded: bytes | None = None
    suffix: str = ""

    @property
    def source(self) -> str:
        """What messages call the image."""
        return str(self.image) if self.image is not None else f"the image in {self.where}"


@dataclass
class Format:
    """A reader of one format. Made on a folder that `fits`; `read` lists it, `label` gives a label map.

    Attributes:
        classes, colors: names in order of id; one RGB colour each, or empty.
        pictures: what `read` found.
        drawn: how truths lie on images that an EXIF tag turns, where the format says; None: sizes tell.
        dropped: what cannot be said in a label map and is left out -> how often.
        bad: messages about what `skip_bad` left out.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    holds_instances: ClassVar[bool] = False

    root: Path
    options: Options
    classes: tuple[str, ...] = ()
    colors: tuple[Color, ...] = ()
    pictures: list[Picture] = field(default_factory=list)
    drawn: Drawn | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Say whether a folder looks like this format; reads names and heads of files only."""
        raise NotImplementedError

    def read(self) -> None:
        """Fill `classes`, `colors` and `pictures`.

        Raises:
            DataError: naming file and field of what is wrong.
        """
        raise NotImplementedError

    def label(self, picture: Picture, size: tuple[int, int]) -> NDArray[Any]:
        """Return the label map (H, W) of a picture in final ids, void as `void`.

        Args:
            picture: one of `pictures`.
            size: (H, W) of its image as it is looked at (turned by its EXIF tag, if it has one).
        """
        raise NotImplementedError

    @property
    def keeps_instances(self) -> bool:
        """Whether the new folder gets instances, by `instances_json`, in place of label maps."""
        return self.holds_instances and not self.options.semantic

    def instances_json(self, pictures: list[tuple[Picture, str]], drawn: Drawn | None) -> bytes:
        """Return the COCO file of some pictures of the new folder, given with their file names there."""
        raise NotImplementedError

    @property
    def void(self) -> int:
        """The id of void in the new folder."""
        return ignore_id(len(self.classes))

    @contextlib.contextmanager
    def skipping(self) -> Iterator[None]:
        """Let a DataError of the block pass into `bad` when the user asked for that."""
        try:
            yield
        except DataError as error:
            if not self.options.skip_bad:
                raise
            self.bad.append(str(error))

    def drop(self, what: str, count: int = 1) -> None:
        """Count what is left out; `label` runs in several threads."""
        with self._lock:
            self.dropped[what] += count

    def needs(self, condition: bool, found: str = "") -> None:
        """Refuse a folder in which the format's files are missing."""
        if not condition:
            raise DataError(
                f"{self.root} is no {self.name} folder: expected {self.layout}{f'. {found}' if found else ''}"
            )


@dataclass(frozen=True)
class ClassTable:
    """Names of labels to ids of a label map.

    Args:
        classes: names in order of id.
        ids: label -> id; void labels have the void id.
        fill: id of pixels on which nothing was drawn.
    """

    classes: tuple[str, ...]
    ids: dict[str, int]
    fill: int

    def id_of(self, label: str, where: str) -> int:
        """Return the id of a label.

        Raises:
            DataError: for a label that is not in the list.
        """
        found = self.ids.get(label)
        if found is None:
            raise DataError(
                f"{where}: field `label`: unknown label '{printable(label, 60)}'."
                f"{did_you_mean(label, list(self.ids))} Known: {listed(list(self.ids))}"
            )
        return found

    def colors_of(self, given: Mapping[str, Color | None]) -> tuple[Color, ...]:
        """Return one colour per class from {label: colour}; none at all unless each has its own."""
        own: dict[int, Color] = {0: (0, 0, 0)} if self.classes[0] == BACKGROUND else {}
        own.update({self.ids[name]: color for name, color in given.items() if color and name in self.ids})
        colors = [own[index] for index in range(len(self.classes)) if index in own]
        return tuple(colors) if len(set(colors)) == len(self.classes) else ()


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(printable(name, 40) for name in names[:_MOST_LISTED])
    return shown if len(names) <= _MOST_LISTED else f"{shown}, … ({len(names)})"


def class_table(labels: Sequence[str], options: Options) -> ClassTable:
    """Return the classes of a format that names its labels: background first, void names to void.

    Args:
        labels: the format's names in order; `options.classes` goes before them.
        options: the user's.
    """
    names = list(dict.fromkeys(options.classes if options.classes is not None else labels))
    void = [name for name in names if name.lower() in _VOID_NAMES]
    behind = [name for name in names if name.lower() in _BACKGROUND_NAMES]
    others = [name for name in names if name not in void and name not in behind]
    if len(behind) > 1:
        raise DataError(f"The labels {listed(behind)} all mean background. Rename all but one")
    with_background = bool(behind) or options.unlabeled == BACKGROUND
    classes = ((BACKGROUND,) if with_background else ()) + tuple(others)
    if not classes:
        raise DataError("There is no label at all, so there are no classes. Draw some, or give --classes")
    void_id = ignore_id(len(classes))
    ids = {name: index for index, name in enumerate(classes)}
    ids.update(dict.fromkeys(behind, 0))
    ids.update(dict.fromkeys(void, void_id))
    fill = 0 if options.unlabeled == BACKGROUND else void_id
    return ClassTable(classes, ids, fill)


def is_void(name: str) -> bool:
    """Say whether a label's name means void."""
    return name.lower() in _VOID_NAMES


def split_of(word: str) -> str | None:
    """Return the split that a folder's or a file's name stands for (`train2017`, `validation`), or None.

    Names that only begin like one (`trainval`, `tests of ours`, `testdev`) stand for none.
    """
    match = re.fullmatch(r"(train|val|test)(?:ing|id|idation)?(?:[_-]?set)?[_-]?\d*", word.lower())
    return _SPLITS[match[1]] if match else None


def safe_name(name: str, where: str) -> str:
    """Return a picture's name as a relative path without suffix, with forward slashes.

    Raises:
        DataError: if it is empty, absolute, hidden or leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    parts = path.parts
    if not parts or path.is_absolute() or ":" in parts[0] or any(part.startswith(".") for part in parts):
        raise DataError(
            f"{where}: the image name '{printable(name, 80)}' is no plain relative path. Rename the image"
        )
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_SUFFIXES else path.as_posix()


def name_below(path: Path, folder: Path) -> str:
    """Return the name of a file below a folder: with the folders between, forward slashes, without suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def plain_files(root: Path, *suffixes: str) -> list[Path]:
    """Return the regular files below a folder with one of these suffixes, in name order; no hidden ones.

    Links to folders are followed, each folder once.
    """
    found, seen = [], set[str]()
    for folder, inside, names in os.walk(root, followlinks=True):
        inside[:] = [name for name in inside if not name.startswith(".")]
        place = os.path.realpath(folder)
        if place in seen:
            inside.clear()
            continue
        seen.add(place)
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]
    return sorted(found)


class ImageFiles:
    """The images below a folder, found by the path that an annotation gives or by the end of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.all = plain_files(root, *IMAGE_SUFFIXES)
        self._known = set(self.all)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.all:
            self._by_name.setdefault(path.name, []).append(path)

    def find(self, wanted: str, where: str, near: Path, hint: str | None = None) -> Path:
        """Return the image that `wanted` means.

        Args:
            wanted: a name or a path, as the annotation gives it.
            where: the annotation, for messages.
            near: the folder to begin from.
            hint: a split; of several images, the one in a folder of that split is meant.

        Raises:
            DataError: if there is none, or several and no telling which.
        """
        path = PurePosixPath(wanted.replace("\\", "/"))
        for folder in (near, self.root):
            direct = Path(os.path.normpath(folder / path))
            if direct in self._known:
                return direct
        named = self._by_name.get(path.name, [])
        ending = [entry for entry in named if entry.parts[-len(path.parts) :] == path.parts]
        for candidates in (ending, named):
            if hint is not None and len(candidates) > 1:
                candidates = [
                    entry
                    for entry in candidates
                    if any(split_of(part) == hint for part in entry.relative_to(self.root).parts[:-1])
                ]
            if len(candidates) == 1:
                return candidates[0]
            if len(candidates) > 1:
                raise DataError(
                    f"{where}: the image '{printable(wanted, 80)}' may be any of {len(candidates)} files, "
                    f"such as {candidates[0]} and {candidates[1]}. Keep one, or convert folder by folder"
                )
        raise DataError(f"{where}: there is no image '{printable(wanted, 80)}' below {self.root}")


def check_choice_of_unlabeled(value: str) -> str:
    """Return `value` if it is background or void."""
    if value not in (BACKGROUND, "void"):
        raise UsageError(f"Argument `unlabeled` must be background or void. Received: {value!r}")
    return value


def label_dtype(void: int) -> type[np.uint8] | type[np.int32]:
    """Return the type of label maps: uint8 where void fits, else int32."""
    return np.uint8 if void <= 255 else np.int32
