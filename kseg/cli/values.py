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
