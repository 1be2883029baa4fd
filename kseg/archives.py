"""Zip archives from strangers (`.keras`, `.npz`, what follows a `.tflite`), read within bounds.

An archive says itself how large its members are, so nothing it says is trusted alone: members are unpacked in
pieces up to a limit, the sum of all may not exceed what archives of weights can have, and every member that
is read is compared with its checksum.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kseg.errors import ArtefactError
from kseg.text import printable

# Weights hardly shrink: an archive that grows more than this is none of ours, unless it is small anyway.
_MOST_GROWTH = 20
_SMALL = 256 * 2**20
_PIECE = 2**20
# One read of zipfile: its directory (about 60,000 members) or a piece of a member.
_MOST_AT_ONCE = 4 * 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    UnicodeError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
_AGAIN = "Copy it again"


def most_unpacked(packed: int) -> int:
    """Return how many bytes `packed` bytes of weights may unpack to: 20 times as many, or 256 MiB."""
    return max(_SMALL, _MOST_GROWTH * packed)


class _Cautious:
    """A file that refuses to hand out more at once than any honest archive makes zipfile ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close, self.seekable = file.seek, file.tell, file.close, file.seekable

    def read(self, count: int = -1) -> bytes:
        content = self._file.read(count if 0 <= count <= _MOST_AT_ONCE else _MOST_AT_ONCE + 1)
        if len(content) > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("its directory is too large")
        return content


class Archive:
    """An open archive; `open_archive` makes it.

    Args:
        archive: the zip.
        size: bytes of the archive.
        where: names it in messages.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int, where: str) -> None:
        self._archive = archive
        self._where = where
        entries = archive.infolist()
        self.names = tuple(entry.filename for entry in entries)
        if len(set(self.names)) < len(self.names):
            raise ArtefactError(f"{where} is damaged: it holds two members of one name. {_AGAIN}")
        for entry in entries:
            if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
                name = printable(entry.filename, 60)
                raise ArtefactError(
                    f"{where} is damaged: its member {name} is packed in a way that kseg never does. {_AGAIN}"
                )
        total, most = sum(entry.file_size for entry in entries), most_unpacked(size)
        if total > most:
            raise ArtefactError(
                f"{where} is refused: its {size:,} bytes unpack to {total:,}, and weights of this size "
                f"unpack to at most {most:,}"
            )

    @property
    def first_offset(self) -> int | None:
        """Where the first member begins in the file; None if there is none."""
        return min((entry.header_offset for entry in self._archive.infolist()), default=None)

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return a member, compared with its checksum.

        Args:
            name: of the member.
            most: bytes that it may have; None: as many as the whole archive.

        Raises:
            ArtefactError: if it is larger, or damaged.
        """
        limit = math.inf if most is None else most
        content = bytearray()
        for piece in self._pieces(name):
            content += piece
            if len(content) > limit:
                raise ArtefactError(
                    f"{self._where}: its member {printable(name, 60)} has more than {limit:,} bytes"
                )
        return bytes(content)

    def verify(self) -> None:
        """Compare every member with its checksum, keeping none.

        Raises:
            ArtefactError: naming the first that differs.
        """
        for name in self.names:
            for _ in self._pieces(name):
                continue

    def _pieces(self, name: str) -> Iterator[bytes]:
        entry = self._archive.getinfo(name)
        length = 0
        try:
            with self._archive.open(entry) as stream:
                while piece := stream.read(_PIECE):
                    length += len(piece)
                    yield piece
        except _DAMAGE as error:
            if "CRC" in str(error):
                raise ArtefactError(
                    f"{self._where} is damaged: its member {printable(name, 60)} fails the checksum. {_AGAIN}"
                ) from error
            reason = f"does not read ({printable(error, 200)})"
            raise ArtefactError(
                f"{self._where} is damaged: its member {printable(name, 60)} {reason}. {_AGAIN}"
            ) from error
        if length != entry.file_size:
            raise ArtefactError(
                f"{self._where} is damaged: its member {printable(name, 60)} is cut short. {_AGAIN}"
            )


@contextlib.contextmanager
def open_archive(source: str | os.PathLike[str] | bytes, *, where: str, alien: str) -> Iterator[Archive]:
    """Open a zip archive.

    Args:
        source: path of the file, or its content.
        where: names it in messages.
        alien: the rest of the message, after `where`, for what is no zip archive.

    Raises:
        ArtefactError: if it is none, or unpacks to more than weights can.
    """
    with contextlib.ExitStack() as opened:
        if isinstance(source, bytes):
            file: IO[bytes] = io.BytesIO(source)
        else:
            file = opened.enter_context(open(source, "rb"))
        size = file.seek(0, os.SEEK_END)
        cautious: Any = _Cautious(file)
        try:
            archive = opened.enter_context(zipfile.ZipFile(cautious))
        except _DAMAGE as error:
            raise ArtefactError(f"{where} {alien}") from error
        yield Archive(archive, size, where)


def read_arrays(archive: Archive, *, where: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz`, by name; nothing is unpickled.

    Raises:
        ArtefactError: if a member is no array of numbers, or has another length than its header says.
    """
    arrays = {}
    for name in archive.names:
        content = archive.read(name)
        try:
            arrays[name.removesuffix(".npy")] = _array(content)
        except _DAMAGE as error:
            raise ArtefactError(
                f"{where} is damaged: its member {printable(name, 60)} is no array ({error})"
            ) from error
    return arrays


def _array(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"format {version} is not one that kseg writes")
    try:
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # numpy parses the header as a Python literal.
        raise ValueError(f"its header does not read: {type(error).__name__}") from error
    if dtype.kind not in "biufV" or dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"it holds {dtype}, not numbers")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(
            f"its header promises {shape} of {dtype}, {len(content) - stream.tell()} bytes follow"
        )
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if by_column else "C")
