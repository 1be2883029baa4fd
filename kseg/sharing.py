"""How several threads share one thing that must not be freed while it is used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kseg.errors import UsageError


class Shared:
    """Lets uses run until `close`, which waits for those that are running and refuses those that come later.

    Args:
        name: what it is, for the message: `"model.tflite"`.
        exclusive: one use at a time (the others wait in line); False: as many as there are threads.
    """

    def __init__(self, name: str, *, exclusive: bool = False) -> None:
        self._name = name
        self._most = 1 if exclusive else None
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Hold the thing open for the length of the block.

        Raises:
            UsageError: if it was closed.
        """
        with self._changed:
            while self._running == self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                raise UsageError(f"'{self._name}' was closed: load it again to use it")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self, free: Callable[[], None]) -> None:
        """Refuse further uses, wait for the running ones, then call `free`: once, however often closed."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            while self._running:
                self._changed.wait()
            free()
