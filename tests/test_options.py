"""Options that are written as one word."""

from __future__ import annotations

import pytest

from kseg.errors import UsageError
from kseg.options import named_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name", ("name", {})),
        ("name:", ("name", {})),
        ("name: a = 1, b=x:y ", ("name", {"a": "1", "b": "x:y"})),
        ("my-name:min-size=a=b", ("my-name", {"min_size": "a=b"})),
    ],
)
def test_names_and_values_are_split(text: str, expected: tuple[str, dict[str, str]]) -> None:
    assert named_options(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected NAME"),
        (":a=1", "expected NAME"),
        ("name:a", "expected key=value, received 'a' in 'name:a'"),
        ("name:=1", "expected key=value"),
        ("name:a=", "expected key=value"),
        ("name:a=1,", "expected key=value"),
        ("name:a=1,a=2", "`a` is given twice"),
        ("name:min-size=1,min_size=2", "`min_size` is given twice"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        named_options(text)
