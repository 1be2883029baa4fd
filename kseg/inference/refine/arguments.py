"""Checks of the arguments of refiners, and the extra that their libraries come with."""

from __future__ import annotations

import math
from typing import Any

from kseg.errors import UsageError

EXTRA = "refine"


def checked(name: str, value: float, low: float, high: float, whole: bool = False) -> Any:
    """Return `value` as a number from `low` to `high`.

    Raises:
        UsageError: naming the argument, its range and what was received.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise UsageError(
            f"Argument `{name}` must be {kind} from {low:g} to {high:g}. Received: {name}={value!r}"
        )
    return int(value) if whole else float(value)
