"""Options that are written as one word: `NAME:key=value,key=value`."""

from __future__ import annotations

from kseg.errors import UsageError


def named_options(text: str) -> tuple[str, dict[str, str]]:
    """Split `NAME` or `NAME:key=value,key=value` into the name and its options; no value may hold a comma.

    Returns:
        The name as written, and the values as written by key; keys with `_` for `-`.

    Raises:
        UsageError: if there is no name, a part after the colon is not `key=value`, or a key comes twice.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise UsageError(f"expected NAME or NAME:key=value,key=value, received '{text}'")
    options: dict[str, str] = {}
    for part in rest.split(",") if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise UsageError(f"expected key=value, received '{part}' in '{text}'")
        key = key.replace("-", "_")
        if key in options:
            raise UsageError(f"`{key}` is given twice in '{text}'")
        options[key] = value
    return name.strip(), options
