"""Keep the C++ chatter of converters off the terminal, and show it when something fails."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from kseg.errors import KsegError

SHOWN_ON_FAILURE = 4000


def _is_debug() -> bool:
    return "--debug" in sys.argv or bool(os.environ.get("KSEG_DEBUG"))


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Collect what is written to stdout and stderr in the block, C++ libraries included.

    The collected text is dropped when the block ends well, or with an error that kseg explains; on any
    other exception its last 4000 characters are printed to
    stderr. With `--debug` or `KSEG_DEBUG=1` all of it goes to stderr as it comes.
    """
    _flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with tempfile.TemporaryFile() as log:
        for descriptor in saved:
            os.dup2(2 if _is_debug() else log.fileno(), descriptor)
        try:
            # Notebooks and test runners put objects of their own in the place of sys.stdout.
            with (
                open(os.dup(2), "w") as stream,
                contextlib.redirect_stdout(stream),
                contextlib.redirect_stderr(stream),
            ):
                yield
        except KsegError:
            # Says in one line what is wrong; the chatter would bury it.
            raise
        except Exception:
            _flush()
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - SHOWN_ON_FAILURE))
            os.write(saved[2], log.read())
            raise
        finally:
            _flush()
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
