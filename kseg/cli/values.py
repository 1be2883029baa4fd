"""How commands read the values that several of them take."""

from __future__ import annotations

import argparse


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


def named_options(text: str) -> tuple[str, dict[str, str]]:
    """Split `NAME` or `NAME:key=value,key=value` into the name and its options, both as written.

    Raises:
        ArgumentTypeError: if a part after the colon is not `key=value`, or a key comes twice.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value or key in options:
            fault = f"'{key}' comes twice" if key in options else f"'{part}' is not key=value"
            raise argparse.ArgumentTypeError(f"expected NAME:key=value,key=value; in '{text}' {fault}")
        options[key] = value
    if not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME or NAME:key=value, received '{text}'")
    return name.strip(), options
