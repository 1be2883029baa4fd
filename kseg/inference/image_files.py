"""Predictions of image files: which files are meant, what their results are called, one after another."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kseg import tasks
from kseg.checks import check_choice
from kseg.data.pictures import listing
from kseg.data.pictures.images import IMAGE_SUFFIXES, read_image
from kseg.errors import DataError
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
    """
    known = tasks.find(predictor.spec.task).part("pictures").KINDS
    for kind in kinds:
        check_choice("kinds", kind, tuple(known))
    written: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    named = zip(paths, unique_names(paths), strict=True)
    for path, name in (progress or silent)(named, len(paths), "predicting"):
        try:
            written.append(_predict_one(predictor, path, out, name, kinds))
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


def _predict_one(predictor: Any, path: Path, out: Path, name: str, kinds: Sequence[str]) -> dict[str, Any]:
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
    for kind in kinds:
        target = out / f"{name}{pictures.KINDS[kind]}"
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
