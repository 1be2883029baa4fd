"""How commands read the values that several of them take."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any

from kseg import options, records
from kseg.errors import UsageError
from kseg.text import printable


def size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH, or one number for a square; both at least 1."""
    try:
        return options.size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that are at least `least`; who takes one knows the most."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,30}", text.strip()) or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number >= {least}, received '{printable(text, 60)}'"
            )
        return int(text)

    return parse


positive = whole(1)
"""Parse a whole number of at least 1."""


def mapping(text: str) -> dict[str, Any]:
    """Parse a JSON object."""
    where, remedy = f"'{printable(text, 60)}'", "Write for example '{\"width\": 0.25}'"
    try:
        return records.parse(text, dict[str, Any], where=where, error=UsageError, remedy=remedy)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def scale_range(text: str) -> list[float]:
    """Parse LOW-HIGH or LOW,HIGH, for example 0.667-1.5."""
    match = re.fullmatch(r"([\d.]+)[-,]([\d.]+)", text.strip())
    try:
        low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    except ValueError:
        low = high = 0.0
    if not 0 < low <= high:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of scales; write for example 0.667-1.5")
    return [low, high]


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
