"""Regular expressions that people give, which no text shall make run for ever."""

from __future__ import annotations

import re
from typing import Any

from kseg.errors import UsageError
from kseg.text import printable


def linear(pattern: str) -> Any:
    """Return an expression of RE2, which takes time in proportion to the text.

    Raises:
        re2.error, UnicodeEncodeError: if RE2 cannot say it.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def compiled(pattern: str, what: str) -> Any:
    """Return an expression with `search(text)` and `groups`, whose matches have `match[0]`, `match[1]`, ...

    RE2 takes time in proportion to the text, Python's own may take 2 to the power of it. What RE2 cannot
    say (look-around, references to a group) is left to Python's.

    Args:
        pattern: as Python's `re` writes it.
        what: what errors call it, for example "Argument `group_by`".

    Raises:
        UsageError: if it is no regular expression.
    """
    import re2

    try:
        own = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{what} is no regular expression: {error}. Received: {printable(repr(pattern), 60)}"
        ) from error
    try:
        return linear(pattern)
    except (re2.error, UnicodeError):
        return own
