"""Ctrl-C that waits for a safe place."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A Ctrl-C of which the one who noticed it can say how to go on; the command line prints that alone."""


class DeferredInterrupt:
    """While entered, Ctrl-C is only noted: `check` raises it, leaving does, and a second one does at once.

    An exception that Python raises wherever it stands can crash a native library or be swallowed in one
    of its callbacks. Outside the main thread, where no signal arrives, it does nothing.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
        if kind is None:
            self.check()

    def _note(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt
