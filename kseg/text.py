"""Text from strangers (file names, class names, values in files) made fit for one line of output."""

from __future__ import annotations

import re
import unicodedata

# Control, format (direction marks), surrogate, private use, unassigned, line and paragraph separators
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: object, limit: int | None = None) -> str:
    """Return `text` with everything escaped that could move a terminal's cursor, colour it or break the line.

    Args:
        text: anything; `str(text)` is used.
        limit: at most this many characters; what is cut is marked by `…`. None: all of it.

    Example:
        >>> printable("road\\n\\x1b[31m")
        'road\\\\n\\\\x1b[31m'
    """
    plain = str(text)
    if limit is not None and len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNSAFE
        else character
        for character in plain
    )


def encodable(json_text: str) -> str:
    """Return JSON text that UTF-8 can hold: bytes of file names that are no text become escapes."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
