"""Checks of arguments that every room shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kseg.errors import UsageError
from kseg.text import printable


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Args:
        least: the smallest value.
        most: the largest.
        whole: whether it must be a whole number.
        above: whether `least` itself is too small.
        below: whether `most` itself is too large.
    """

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        kind = int if self.whole else int | float
        inside = isinstance(value, kind) and not isinstance(value, bool) and self.least <= value <= self.most
        at_an_open_end = (self.above and value == self.least) or (self.below and value == self.most)
        return inside and not at_an_open_end

    def __str__(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        low = f"{'>' if self.above else '>='} {self.least:.15g}"
        high = f"{'<' if self.below else '<='} {self.most:.15g}"
        bounds = [text for text, bound in ((low, self.least), (high, self.most)) if math.isfinite(bound)]
        return " ".join([noun, " and ".join(bounds)]).strip()

    def check(self, value: Any, name: str, of: str = "Argument") -> Any:
        """Return `value`.

        Raises:
            UsageError: naming argument, range and what was received, if `value` is outside.
        """
        if value not in self:
            huge = isinstance(value, int) and value.bit_length() > 256
            shown = f"an integer of {value.bit_length()} bits" if huge else printable(repr(value), 60)
            raise UsageError(f"{of} `{name}` must be {self}. Received: {name}={shown}")
        return value
