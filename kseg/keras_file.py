"""Reading `.keras` files from strangers: whole, bounded, given to Keras only when nothing in them is absurd.

Keras rebuilds the network that `config.json` describes before it looks at the weights, and HDF5 follows
whatever the weights' file links to; both are looked at here first.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kseg import archives, records
from kseg.errors import ArtefactError, KsegError, UsageError
from kseg.text import printable

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
CONFIG_MEMBER = "config.json"
WEIGHTS_MEMBER = "model.weights.h5"
KERAS_MEMBERS = (CONFIG_MEMBER, "metadata.json", WEIGHTS_MEMBER)
_MOST_JSON = 16 * 2**20
_SMALL_MEMBERS = (CONFIG_MEMBER, "metadata.json")
# Seeds and counters, which some versions of Keras store and others do not.
_SPARE_WEIGHTS = 2**16
_MOST_GROUPS = 100_000
_NUMBERS = "biufV"
_ALIEN = (
    f"is not a whole {SUFFIX} file: it lacks the zip directory at its end "
    "(truncated, or another format renamed)"
)

T = TypeVar("T")
_hooked = threading.RLock()
# Threads within `at_most_weights`.
_owners: list[int] = []


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[archives.Archive, str]]:
    file, where = Path(path), f"'{printable(path)}'"
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no file" if file.exists() else "does not exist"
        raise ArtefactError(f"{where} {what}; expected a file")
    if file.stat().st_size == 0:
        raise ArtefactError(f"{where} is empty (0 bytes): the copy or download failed. Get it again")
    with archives.open_archive(file, where=where, alien=_ALIEN) as archive:
        yield archive, where


def read_member(path: str | os.PathLike[str], member: str, kind: type[T], *, without: str) -> T:
    """Return what a JSON member of a whole `.keras` file holds; every other member was checked, too.

    Needs neither Keras nor HDF5.

    Args:
        path: the file.
        member: name of the member.
        kind: type of the result (see `kseg.records`).
        without: the rest of the message for a Keras model that lacks the member.

    Raises:
        ArtefactError: if the file is missing, damaged, unpacks to too much, or lacks the member.
    """
    with _opened(path) as (archive, where):
        _check_present(archive, where, member)
        if member not in archive.names:
            raise ArtefactError(f"{where} {without}")
        content = archive.read(member, _MOST_JSON)
        archive.verify()
    return records.parse(content, kind, where=f"{where}, member {member}", error=ArtefactError)


def _check_present(archive: archives.Archive, where: str, *more: str) -> None:
    missing = [name for name in KERAS_MEMBERS if name not in archive.names]
    if missing:
        missing += [name for name in more if name not in archive.names]
        raise ArtefactError(f"{where} is not a {SUFFIX} file of kseg: it lacks {', '.join(missing)}")


def load_network(path: str | os.PathLike[str]) -> keras.Model:
    """Return the network in a `.keras` file, not compiled; layers must be registered with Keras before.

    Raises:
        ArtefactError: if the file is missing, damaged, unpacks to too much, describes more weights than it
            holds, reaches for other files, or cannot be rebuilt by this Keras.
    """
    import keras

    if Path(path).suffix != SUFFIX:
        raise ArtefactError(
            f"'{printable(path)}' holds a Keras model but its name does not end in '{SUFFIX}'. Rename it"
        )
    with _opened(path) as (archive, where):
        _check_present(archive, where)
        for member in _SMALL_MEMBERS:
            text = archive.read(member, _MOST_JSON)
            records.parse(text, dict[str, Any], where=f"{where}, member {member}", error=ArtefactError)
        archive.verify()
        held = count_weights(archive.read(WEIGHTS_MEMBER), where=f"{where}, member {WEIGHTS_MEMBER}")
    refusal = f"the network that it describes has more weights than it holds ({held:,})"
    try:
        with at_most_weights(held + _SPARE_WEIGHTS, refusal), warnings.catch_warnings():
            # What Keras warns of here it also raises, a moment later.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except KsegError as error:
        raise ArtefactError(f"{where} cannot be rebuilt: {_one_line(error)}") from error
    except Exception as error:
        # A configuration from elsewhere makes Keras, its layers and the backend raise errors of every kind.
        raise ArtefactError(
            f"{where} cannot be rebuilt by Keras {keras.__version__}: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()) or type(error).__name__, 300)


def count_weights(content: bytes, *, where: str) -> int:
    """Return how many numbers a `.weights.h5` holds, after making sure that it holds them itself.

    Args:
        content: bytes of the file.
        where: names it in messages.

    Raises:
        ArtefactError: if it is damaged, points to other files, or declares more data than it can hold.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return sum(math.prod(found.shape) for found in _datasets(file, len(content)))
    except _Refused as error:
        raise ArtefactError(f"{where} is refused: {error}") from error
    except Exception as error:
        # h5py turns the library's errors into OSError, KeyError, RuntimeError, ValueError ... as it sees fit.
        raise ArtefactError(f"{where} is damaged: {_one_line(error)}. Copy it again") from error


class _Refused(Exception):
    """The file is readable, but not what Keras writes."""


def _datasets(file: Any, size: int) -> Iterator[Any]:
    import h5py

    rest = archives.most_unpacked(size)
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) + len(waiting) > _MOST_GROUPS:
            raise _Refused(f"it has more than {_MOST_GROUPS:,} groups")
        for name in group:
            shown = printable(f"{group.name}/{name}", 80)
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _Refused(f"'{shown}' is a link to elsewhere")
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append(found)
                continue
            if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in _NUMBERS:
                raise _Refused(f"'{shown}' holds no numbers")
            if found.external or found.is_virtual:
                raise _Refused(f"the data of '{shown}' lie in another file")
            rest -= math.prod(found.shape) * found.dtype.itemsize
            if rest < 0:
                raise _Refused(f"its {size:,} bytes claim to hold '{shown}' of {found.shape} {found.dtype}")
            yield found


def is_bounded() -> bool:
    """Tell whether this thread is within `at_most_weights`."""
    return threading.get_ident() in _owners


@contextlib.contextmanager
def _counted(owner: int) -> Iterator[None]:
    _owners.append(owner)
    try:
        yield
    finally:
        _owners.remove(owner)


@contextlib.contextmanager
def at_most_weights(most: int, refusal: str, error: type[Exception] = UsageError) -> Iterator[None]:
    """Within the block, refuse to make layers' weights of more than `most` numbers in all, before they exist.

    Args:
        most: numbers.
        refusal: the message.
        error: what to raise.

    Raises:
        Exception: `error` with `refusal`, from within the block.
    """
    import keras

    owner, made = threading.get_ident(), 0
    with _hooked, _counted(owner):
        original = keras.layers.Layer.add_weight

        def add_weight(layer: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
            nonlocal made
            if threading.get_ident() == owner:
                made += math.prod(int(side) for side in shape or ())
                if made > most:
                    raise error(refusal)
            return original(layer, shape, *arguments, **options)

        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = original
