"""What values of a training's arguments may be, where a range of one number does not say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kseg.checks import Range
from kseg.errors import UsageError
from kseg.text import printable

Size = tuple[int, int]

# Beyond these a value is a slip of the keyboard. float32 ends at 3e38, and squares of a rate are taken.
MOST = 1e10
MOST_SIDE = 2**15
MOST_PIXELS = 2**28
# numpy's generators take no more, and Keras seeds them.
MOST_SEED = 2**32 - 1


def whole_number(least: int, most: int) -> Range:
    """Return the range of whole numbers from `least` to `most`."""
    return Range(least, most, whole=True)


def check_factors(rules: Mapping[str, Any]) -> None:
    """Check learning-rate multipliers.

    Raises:
        UsageError: for one that is not positive: weight decay would go on with a multiplier of 0, and batch
            normalisation's statistics too.
    """
    for rule, factor in rules.items():
        if factor not in Range(0, MOST, above=True):
            raise UsageError(
                f"A learning rate multiplier must be a positive number, at most {MOST:g}; `freeze` holds "
                f"layers still (--freeze REGEX). Received: {rule!r}: {factor!r}"
            )


def check_step(batch_size: int, crop: Size) -> None:
    """Check that one training step has a number of pixels that a machine can hold.

    Raises:
        UsageError: beyond 2**28 pixels (3 GB of input alone).
    """
    pixels = batch_size * crop[0] * crop[1]
    if pixels > MOST_PIXELS:
        what = (
            f"{batch_size} images of {crop[0]} x {crop[1]} have"
            if batch_size > 1
            else f"{crop[0]} x {crop[1]} are"
        )
        raise UsageError(
            f"{what} {pixels:,} pixels; at most {MOST_PIXELS:,} are trained on at once. "
            f"Lower {'`batch_size`, or' if batch_size > 1 else '`size` or'} `crop`"
        )


def check_size(name: str, value: Any) -> None:
    """Check (height, width) of an image.

    Raises:
        UsageError: naming the argument.
    """
    sides = tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or any(side not in whole_number(1, MOST_SIDE) for side in sides):
        raise UsageError(
            f"Argument `{name}` must be (height, width), both >= 1 and <= {MOST_SIDE}. "
            f"Received: {name}={printable(repr(value), 60)}"
        )
    check_step(1, sides)


def check_recordable(name: str, values: Mapping[str, Any]) -> None:
    """Check that `run.json` can hold the values of an argument.

    Raises:
        UsageError: naming the argument and the value.
    """
    for key, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"Argument `{name}` must hold what JSON can: finite numbers, words, lists. Received: "
                f"{printable(key, 60)}={printable(repr(value), 60)}"
            ) from error
