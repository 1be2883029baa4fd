"""Regular expressions of users: refused in one line, and never a hang."""

from __future__ import annotations

import pytest

from kseg.errors import UsageError
from kseg.patterns import compiled


def test_nested_stars_end() -> None:
    """Python's own would search for years."""
    assert compiled("(.*)*" * 20 + "x", "Argument `freeze`").search("block10_depthwise_conv/kernel") is None


@pytest.mark.parametrize("pattern", ["(", "*", "a{2,1}", "(" * 10_000, "[\udc80"])
def test_what_is_none_is_named(pattern: str) -> None:
    with pytest.raises(UsageError, match="Argument `freeze` is no regular expression") as caught:
        compiled(pattern, "Argument `freeze`")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("bias$", "fc6/bias", "bias"),
        ("^(?!head)", "stem", ""),
        ("^(?!head)", "head_1", None),
        (r"(a)\1", "aa", "aa"),
    ],
)
def test_what_is_found(pattern: str, text: str, found: str | None) -> None:
    match = compiled(pattern, "It").search(text)
    assert (None if match is None else match[0]) == found


def test_groups() -> None:
    pattern = compiled(r"^(.*?)_(\d+)", "It")
    assert (pattern.groups, pattern.search("seq_12")[1]) == (2, "seq")
