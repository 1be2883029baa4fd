"""One writer per folder: a lock that the operating system drops when its process dies."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from pathlib import Path

from kseg.errors import UsageError
from kseg.text import printable

FILE = ".lock"
# What file systems answer that have no locks (some network and FUSE ones).
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_MOST_LETTERS = 200


class FolderLock:
    """Holds `folder` for this process, from `take` to `drop` or to the end of the process, however it ends.

    The lock is on the file `.lock` inside, which says who holds it and stays there, unlocked, afterwards: a
    file that is removed could be locked by one process and made anew by another.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._handle: int | None = None

    def take(self) -> bool:
        """Take the lock.

        Returns:
            Whether the folder is locked; False where its file system has no locks.

        Raises:
            UsageError: if another process (or another lock of this one) holds it.
            OSError: if the file cannot be written.
        """
        if self._handle is not None:
            return True
        handle = os.open(self.folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, _MOST_LETTERS, 0).decode("utf-8", "replace").strip()
            os.close(handle)
            if error.errno in _UNSUPPORTED:
                return False
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UsageError(
                f"'{self.folder}' is being written to by {printable(holder) or 'another process'}: wait for "
                "it, end it, or give another --out"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        self._handle = handle
        return True

    def drop(self) -> None:
        """Give the lock back, if it is held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_unused(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds nothing, or nothing but the file of a lock."""
    return all(entry.name == FILE for entry in Path(folder).iterdir())
