"""Checks of arguments that every room shares: numbers in a range, pairs, flags, words of a list."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from kseg.errors import UsageError, did_you_mean
from kseg.text import printable


@dataclass(frozen=True)
class Range:
    """What a number may be; infinite and undefined ones never.

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
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        if not isinstance(value, Integral) and not math.isfinite(value):
            return False
        number: Any = value
        low = self.least < number if self.above else self.least <= number
        return bool(low and (number < self.most if self.below else number <= self.most))

    def __str__(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        low = f"{'>' if self.above else '>='} {self.least:.15g}"
        high = f"{'<' if self.below else '<='} {self.most:.15g}"
        bounds = [text for text, bound in ((low, self.least), (high, self.most)) if math.isfinite(bound)]
        if bounds == ["> 0"]:
            return "a positive number"
        return f"{noun} {' and '.join(bounds)}" if bounds else "a finite number"

    def check(self, value: Any, name: str, of: str = "Argument") -> Any:
        """Return `value`.

        Raises:
            UsageError: naming argument, range and what was received, if `value` is outside.
        """
        if value not in self:
            raise UsageError(f"{of} `{name}` must be {self}. Received: {name}={_shown(value)}")
        return value


ANY = Range()
POSITIVE = Range(0, above=True)
SHARE = Range(0, 1, below=True)


def whole(value: Any, of: str, name: str, minimum: int = 1, maximum: float = math.inf) -> int:
    """Return `value` if it is an integer of at least `minimum` and at most `maximum`.

    Args:
        value: what was given.
        of: whose argument it is: `"Argument"`, a layer, `"UNet: argument"`.
        name: of the argument.
        minimum: the smallest value.
        maximum: the largest.

    Raises:
        UsageError: naming whose argument it is, the argument, its range and what was received.
    """
    if value not in Range(minimum, maximum, whole=True):
        kind = "a positive integer" if minimum == 1 else f"an integer >= {minimum}"
        if value in Range(minimum, whole=True):
            kind = f"at most {maximum:,}"
        raise UsageError(f"{of} `{name}` must be {kind}. Received: {name}={_shown(value)}")
    return int(value)


def pair(value: Any, of: str, name: str, minimum: int = 1) -> tuple[int, int]:
    """Return `value`, one integer or two, as `(height, width)`; the rest is as in `whole`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(side not in Range(minimum, whole=True) for side in values):
        raise UsageError(
            f"{of} `{name}` must be an integer >= {minimum}, or two of them. Received: {name}={_shown(value)}"
        )
    return int(values[0]), int(values[1])


def flag(value: Any, of: str, name: str) -> bool:
    """Return `value` if it is True or False: a text such as "no" would count as true.

    Raises:
        UsageError: naming whose argument it is, the argument and what was received.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{of} `{name}` must be true or false. Received: {name}={_shown(value)}")
    return value


def check_choice(name: str, value: Any, known: Collection[Any], of: str = "") -> Any:
    """Return `value` if it is one of `known`.

    Args:
        name: of the argument.
        value: what was given for it.
        known: what it may be.
        of: whose argument it is, where that does not go without saying.

    Raises:
        UsageError: naming the argument, what it may be, the nearest and what was received.
    """
    if value in known:
        return value
    subject = f"{of}: argument" if of else "Argument"
    words = [str(word) for word in known]
    raise UsageError(
        f"{subject} `{name}` must be one of {', '.join(words)}. Received: {name}={_shown(value)}."
        f"{did_you_mean(str(value), words)}"
    )


def _shown(value: Any) -> str:
    """Return what was received in one line; Python itself refuses to write endless integers."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return printable(repr(value), 60)
