"""Work on many images at once: decoders and OpenCV release Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from kseg.machine.host import cores

In = TypeVar("In")
Out = TypeVar("Out")
# Shows a long loop: wraps (items, how many there are).
Progress = Callable[[Iterable[Any], int], Iterator[Any]]

_MOST = 8


def workers() -> int:
    """Return how many threads share the work: the cores that this process may use, 8 at most."""
    return max(1, min(cores(), _MOST))


def parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield `function(item)` in order, computed by threads, few at a time."""
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * workers():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
