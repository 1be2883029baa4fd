"""Typed, bounded reading of JSON: what is refused, and what the refusal says."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseg import records
from kseg.errors import ArtefactError, DataError, UsageError
from kseg.spec import Spec


class Best(records.Record):
    epoch: records.Count
    score: float


class Run(records.Record):
    arguments: dict[str, Any]
    best: Best | None = None
    sizes: tuple[int, ...] = ()
    named: dict[str, int] | None = None


def test_good_record() -> None:
    run = records.parse(
        b'{"arguments": {"a": [1]}, "best": {"epoch": 3, "score": 1}, "new": 0}', Run, where="r"
    )
    assert run.arguments == {"a": [1]}
    assert run.best == Best(epoch=3, score=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not valid JSON"),
        ('{"arguments": {}', "is not valid JSON"),
        ('{"arguments": NaN}', "is not valid JSON"),
        ('{"arguments": {"x": 1e999}}', "out of range"),
        ("[]", "expected an object, found a list"),
        ("{}", "missing required field `arguments`"),
        ('{"arguments": 5}', "`arguments`: expected an object, found a whole number. Received: 5"),
        ('{"arguments": {}, "best": {"epoch": "x", "score": 1}}', "`best.epoch`: expected a whole number"),
        (
            '{"arguments": {}, "best": {"epoch": -1, "score": 1}}',
            "expected a whole number >= 0",
        ),
        (
            '{"arguments": {}, "sizes": [1, "two"]}',
            "`sizes[1]`: expected a whole number, found text",
        ),
        ('{"arguments": {}, "best": 5}', "`best`: expected an object or null, found a whole number"),
        ('{"arguments": {}, "named": {"a": null}}', "`named[...]`: expected a whole number, found null"),
    ],
)
def test_refusals_name_field_and_finding(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        records.parse(text, Run, where="'run.json'", remedy="Train again")
    message = str(caught.value)
    assert message.startswith("'run.json'")
    assert said in message
    assert message.endswith("Train again")
    assert "\n" not in message


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [70, 100_000])
def test_depth_is_bounded(opening: bytes, levels: int) -> None:
    closing = b"]" if opening == b"[" else b"}"
    text = b'{"arguments": {"x": ' + opening * levels + b"1" + closing * levels + b"}}"
    with pytest.raises(DataError, match="nested too deep"):
        records.parse(text, Run, where="r")


@pytest.mark.parametrize("digits", [20, 500, 5000])
def test_digits_are_bounded(digits: int) -> None:
    with pytest.raises(DataError, match=r"beyond 63 bits|out of range"):
        records.parse('{"arguments": {"x": ' + "9" * digits + "}}", Run, where="r")


def test_bytes_are_bounded(tmp_path) -> None:
    file = tmp_path / "large.json"
    file.write_text(json.dumps({"arguments": {"x": "a" * 2000}}))
    with pytest.raises(DataError, match="at most 1,000"):
        records.read(file, Run, max_bytes=1000)


def test_byte_order_mark_is_no_fault(tmp_path) -> None:
    file = tmp_path / "windows.json"
    file.write_bytes(b'\xef\xbb\xbf{"arguments": {}}')
    assert records.read(file, Run) == Run(arguments={})


def test_files_that_are_none(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, said in [("fifo", "no regular file"), ("absent", "does not exist"), (".", "no regular file")]:
        with pytest.raises(UsageError, match=said):
            records.read(tmp_path / name, Run, error=UsageError)


def test_other_encodings_are_refused(tmp_path) -> None:
    file = tmp_path / "latin.json"
    file.write_bytes('{"arguments": {"x": "ü"}}'.encode("latin-1"))
    with pytest.raises(DataError, match="is not valid JSON"):
        records.read(file, Run)


def test_names_cannot_break_the_line(tmp_path) -> None:
    file = tmp_path / "a\nb\x1b[31m.json"
    file.write_text('{"arguments": "\\u001b[31mred\\n"}')
    with pytest.raises(DataError) as caught:
        records.read(file, Run)
    assert str(caught.value).isprintable()


def test_dataclasses_say_their_own_rules() -> None:
    values = Spec(classes=("a", "b")).to_dict()
    assert records.convert(values, Spec, where="the spec") == Spec(classes=("a", "b"))
    with pytest.raises(ArtefactError, match=r"the spec: Spec `ignore_id` must not be a class index"):
        records.convert({**values, "ignore_id": 1}, Spec, where="the spec")
    with pytest.raises(ArtefactError, match=r"field `classes\[0\]`: expected text, found a whole number"):
        records.convert({**values, "classes": [1]}, Spec, where="the spec")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15
)


def refusal(content: bytes | str) -> str:
    """Return the message that reading `content` ends with, or nothing."""
    try:
        records.parse(content, Run, where="r")
    except DataError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_value_is_a_record_or_one_line(value: Any) -> None:
    assert "\n" not in refusal(json.dumps({"arguments": value, "best": value, "sizes": value}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_one_line(content: bytes) -> None:
    assert "\n" not in refusal(content)
