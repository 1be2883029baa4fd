"""What C libraries write straight to file descriptor 2, kept off the terminal."""

from __future__ import annotations

import os
import sys
import threading


class _Silence:
    """While any thread is inside, descriptor 2 leads nowhere; the last one out puts it back.

    libtiff prints each fault of a damaged file, and Pillow offers no switch; the exception says what is
    wrong. Descriptors belong to the process, so threads that decode at once share one redirection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._original = -1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            if sys.stderr is not None:
                sys.stderr.flush()
            try:
                self._original = os.dup(2)
            except OSError:
                # A process without stderr has nothing to silence.
                self._original = -1
                return
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._original >= 0:
                os.dup2(self._original, 2)
                os.close(self._original)


silent_native_stderr = _Silence()
