"""What int8 leaves in float: by the caller's pattern on layers' names, else as the network is registered."""

from __future__ import annotations

from kseg.errors import UsageError
from kseg.patterns import linear
from kseg.spec import Spec

# Far beyond any list of layers; RE2 itself bounds what a pattern may unfold to.
_LONGEST = 10_000


class Pattern:
    """A pattern of RE2, whose search takes time linear in the text, whatever the pattern.

    Args:
        text: the regular expression, in RE2's syntax: Perl's without look-around and back-references.
        argument: what the caller calls it, for messages.

    Raises:
        UsageError: if it is empty, too long, or no pattern of RE2.
    """

    def __init__(self, text: str, argument: str = "keep_float") -> None:
        import re2

        if not isinstance(text, str) or not text:
            raise UsageError(
                f"Argument `{argument}` must be a regular expression with something in it: '.' for every "
                f"layer, '^$' for none. Received: {text!r}"
            )
        if len(text) > _LONGEST:
            raise UsageError(
                f"Argument `{argument}` has {len(text):,} characters; at most {_LONGEST:,} are taken. "
                f"It begins: {text[:40]!r}"
            )
        try:
            self._compiled = linear(text)
        except (re2.error, UnicodeEncodeError) as error:
            raise UsageError(
                f"Argument `{argument}` must be a regular expression of RE2 ({_reason(error)}; it has "
                f"neither look-around nor back-references). Received: {text!r}"
            ) from error

    def found_in(self, name: str) -> bool:
        """Whether the pattern is found anywhere in `name`."""
        return self._compiled.search(name) is not None


def _reason(error: Exception) -> str:
    """RE2's reason; its Python module hands it over as bytes."""
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)


def check_keep_float(keep_float: str | None, precision: str) -> None:
    """Raise UsageError for a pattern that is none, or that is given for another precision than int8."""
    if keep_float is None:
        return
    if precision != "int8":
        raise UsageError(f"Argument `keep_float` is for precision 'int8'. Received: precision={precision!r}")
    Pattern(keep_float)


def kept_float(keep_float: str | None, precision: str, spec: Spec) -> str | None:
    """Return the layers that int8 leaves in float: as asked, else those that the architecture names."""
    from kseg import models

    if keep_float is not None or precision != "int8" or spec.architecture not in models.names():
        return keep_float
    return models.describe(spec.architecture).keep_float
