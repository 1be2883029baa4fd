"""How commands read the values that several of them take."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable


def size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH, both at least 1."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 360x480, received '{text}'")
    return int(parts[0]), int(parts[1])


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received '{text}'")
    return int(text)


def number(least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """Return a parser of one finite number from `least` to `most`; a NaN would switch a gate off."""
    if math.isinf(least):
        wanted = "a finite number"
    else:
        wanted = f"a number from {least:g} to {most:g}" if math.isfinite(most) else f"a number >= {least:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most):
            raise argparse.ArgumentTypeError(f"expected {wanted}, received '{text}'")
        return value

    return parse


points = number(0, 100)
"""Parse points of IoU, 0 to 100: what gates compare with."""


def seed(text: str) -> int:
    """Parse a seed of random numbers: what numpy and Keras take, 0 to 2**32 - 1."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to {2**32 - 1}, received '{text[:40]}'"
        )
    return int(text)


def numbers(example: str) -> Callable[[str], tuple[float, ...]]:
    """Return a parser of numbers with commas between them, whose error shows `example`."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"expected numbers such as {example}, received '{text}'"
            ) from error

    return parse
