"""What a sample becomes as a training target, made last: behind cache, resizing and augmentation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kseg.data.sample import Sample
from kseg.errors import UsageError

# Sample -> one array, or several by name; of the same shapes and types for every sample. Where a function has
# the attribute `needs_instances` and that is False, samples come without their instances, which is faster.
Encode = Callable[[Sample], Any]


class SemanticTarget:
    """The mask as int32 `(H, W)`: class ids, and the ignore id where there is no truth."""

    needs_instances: ClassVar[bool] = False

    def __call__(self, sample: Sample) -> NDArray[np.int32]:
        return sample.mask.astype(np.int32, copy=False)


semantic_target = SemanticTarget()


def needs_instances(encode: Encode) -> bool:
    """Return whether targets are made of instances too."""
    return bool(getattr(encode, "needs_instances", True))


def parts(target: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of a target by name; the only one of a target without names is called \"\"."""
    named = target if isinstance(target, dict) else {"": target}
    return {name: np.asarray(value) for name, value in named.items()}


class Stack:
    """The targets of a batch, stacked while threads bring them: the first to come says shapes and types.

    Args:
        count: rows of the batch.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._arrays: dict[str, NDArray[Any]] = {}

    def put(self, row: int, target: Any, name: str) -> None:
        """Take in the target of one row; `name` is the sample's, for messages.

        Raises:
            UsageError: if its names, shapes or types are not those of the other rows.
        """
        own = parts(target)
        with self._lock:
            if not self._arrays:
                self._arrays = {
                    key: np.empty((self._count, *value.shape), value.dtype) for key, value in own.items()
                }
        wanted = {key: (value.shape[1:], value.dtype) for key, value in self._arrays.items()}
        found = {key: (value.shape, value.dtype) for key, value in own.items()}
        if found != wanted:
            raise UsageError(
                f"Argument `encode` must give the same arrays for every sample. Received: {_told(found)} for "
                f"'{name}', {_told(wanted)} for another"
            )
        for key, value in own.items():
            self._arrays[key][row] = value

    def result(self) -> Any:
        """Return the stacked target: an array, or arrays by name."""
        return self._arrays[""] if set(self._arrays) == {""} else self._arrays


def _told(arrays: dict[str, Any]) -> str:
    return ", ".join(f"{key} {dtype} {shape}".strip() for key, (shape, dtype) in arrays.items()) or "nothing"
