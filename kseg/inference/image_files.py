"""Predictions of image files: which files are meant, what their results are called, one after another."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kseg import tasks
from kseg.checks import check_choice
from kseg.data.pictures import listing
from kseg.data.pictures.images import IMAGE_SUFFIXES, read_image
from kseg.errors import DataError, UsageError
from kseg.files import resolved
from kseg.progress import Progress, Say, silent
from kseg.text import printable


def predict_files(
    predictor: Any,
    paths: Sequence[Path],
    out: Path,
    kinds: Sequence[str],
    *,
    progress: Progress | None = None,
    say: Say | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Write pictures of what a predictor sees in image files; one that cannot be read does not stop the rest.

    Args:
        predictor: of any task (`kseg.tasks.Predictor`).
        paths: the images (`find_images`).
        out: folder of the pictures.
        kinds: some of the kinds that the pictures of the model's task have.
        progress: wraps the loop over the images.
        say: takes one line about each image that failed. None: nobody.

    Returns:
        An entry for each image that was written (`image`, `id`, `height`, `width`, a path by kind, and what
        the task says: `shares` of the classes), and one for each that was not (`image`, `error`).

    Raises:
        UsageError: if a kind is unknown, or a picture would be written over one of the images. Nothing is
            written then.
    """
    known = tasks.find(predictor.spec.task).part("pictures").KINDS
    for kind in kinds:
        check_choice("kinds", kind, tuple(known))
    names = unique_names(paths)
    targets = [{kind: out / f"{name}{known[kind]}" for kind in kinds} for name in names]
    _check_targets(paths, targets)
    written: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    named = zip(paths, names, targets, strict=True)
    for path, name, own in (progress or silent)(named, len(paths), "predicting"):
        try:
            written.append(_predict_one(predictor, path, name, own))
            continue
        except DataError as error:
            reason = str(error)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            reason = f"'{path}': the name of its results is too long for the file system. Shorten the image's"
        failed.append({"image": str(path), "error": reason})
        if say is not None:
            say(reason)
    return written, failed


def _check_targets(paths: Sequence[Path], targets: Sequence[Mapping[str, Path]]) -> None:
    """Refuse to write over an image that is read, by whatever name: a link, or in other case."""
    inputs = {found: path for path in paths if (found := _identity(path)) is not None}
    for path, own in zip(paths, targets, strict=True):
        for kind, target in own.items():
            if (found := _identity(target)) in inputs:
                raise UsageError(
                    f"The {kind} of '{printable(path)}' would be written over '{printable(inputs[found])}', "
                    "which is one of the images to predict. Give an --out elsewhere"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what is the same of all names of a file; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _predict_one(predictor: Any, path: Path, name: str, targets: Mapping[str, Path]) -> dict[str, Any]:
    image = read_image(path)
    spec = predictor.spec
    pictures = tasks.find(spec.task).part("pictures")
    (prediction,) = predictor.stream([image])
    entry: dict[str, Any] = {
        "image": str(path),
        "id": name,
        "height": image.shape[0],
        "width": image.shape[1],
    }
    for kind, target in targets.items():
        try:
            pictures.write(kind, target, image, prediction, spec)
        except DataError as error:
            raise DataError(f"'{printable(path)}': {error}") from error
        entry[kind] = str(target)
    return {**entry, **pictures.describe(prediction, spec)}


def find_images(sources: Sequence[str], out: Path) -> list[Path]:
    """Return the image files that `sources` name, folders with their subfolders, each file once.

    Hidden files, and what lies under `out` (an earlier run's pictures), are left out of folders.

    Raises:
        DataError: if a source does not exist, or a folder has no image.
    """
    found: dict[Path, None] = {}
    own = resolved(out.absolute())
    for source in map(Path, sources):
        if source.is_file():
            found[source] = None
            continue
        if not source.is_dir():
            what = "is neither an image file nor a folder" if source.exists() else "does not exist"
            raise DataError(f"'{printable(source)}' {what}")
        listed = listing.images(source)
        if listed.special:
            listing.tell_once(listing.special_line(listed.special))
        files = [
            path for path in listed.files if own not in path.resolve().parents or own == source.resolve()
        ]
        if not files:
            raise DataError(f"The folder '{printable(source)}' has no image ({', '.join(IMAGE_SUFFIXES)})")
        found.update(dict.fromkeys(files))
    return list(found)


def unique_names(paths: Iterable[Path]) -> list[str]:
    """Return a distinct name per path: its stem where that is enough, else with folder, suffix or a number.

    Names that differ in case only count as the same, because some file systems say so.
    """
    given = list(paths)
    forms: list[Callable[[Path], str]] = [
        lambda path: path.stem,
        lambda path: f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem,
        lambda path: f"{path.parent.name}_{path.stem}_{path.suffix[1:]}",
    ]
    names = [forms[0](path) for path in given]
    for form in forms[1:]:
        counts = Counter(name.lower() for name in names)
        names = [
            form(path) if counts[name.lower()] > 1 else name for path, name in zip(given, names, strict=True)
        ]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number, candidate = 2, name
        while candidate.lower() in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate.lower())
        names[index] = candidate
    return names
