"""The campaign itself: what goes wrong in a worker is a counted result, and the next case runs."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from pathlib import Path

import campaign
import campaign_pool
import campaign_table
import pytest
from campaign_pool import Case, Pool, Result
from cases import Kind, Place, Skipped, WrongResult, number_of, outcome

from kseg.errors import DataError

MIB = 2**20


def _raises(error: BaseException) -> Callable[[bytes, Place], str]:
    def act(bad: bytes, place: Place) -> str:
        raise error

    return act


def _hang(bad: bytes, place: Place) -> str:
    while True:
        time.sleep(1)


def _grow(bad: bytes, place: Place) -> str:
    held = [bytearray(b"x" * 40 * MIB) for _ in range(50)]
    time.sleep(60)
    return f"{len(held)}"


def _grow_and_free(bad: bytes, place: Place) -> str:
    return "read" if len(b"x" * 600 * MIB) else ""


def _crash(bad: bytes, place: Place) -> str:
    return str(ctypes.string_at(0))


ACTS: dict[str, Callable[[bytes, Place], str]] = {
    "well": lambda bad, place: "read" if int(bad) == 7 and place.folder.is_dir() else "refused",
    "internal": _raises(KeyError("x")),
    "exits": _raises(SystemExit(3)),
    "unprintable": _raises(AssertionError("\x1b")),
    "wrong": _raises(WrongResult("2 is not 3")),
    "skipped": _raises(Skipped("no such disk")),
    "hang": _hang,
    "memory": _grow,
    "memory for a moment": _grow_and_free,
    "crash": _crash,
}
EXPECTED = {
    "well": "read",
    "exits": "internal",
    "unprintable": "internal",
    "crash": "internal",
    "memory for a moment": "memory",
}


def kinds() -> dict[str, Kind]:
    # Short for the one that hangs only: on a busy machine the others may take long.
    return {
        name: Kind(name, number_of, act, seconds=1 if name == "hang" else 60) for name, act in ACTS.items()
    }


def test_every_fault_is_counted_and_the_campaign_goes_on(tmp_path: Path) -> None:
    results: list[Result] = []
    cases = [Case(name, 7) for name in (*ACTS, "well")]
    Pool(kinds, tmp_path, memory=400 * MIB, count=1).run(cases, results.append)
    assert [result.case for result in results] == cases
    for result in results:
        assert result.status == EXPECTED.get(result.case.kind, result.case.kind), result
        assert (result.content == b"7") == (result.status in campaign_pool.FAULTS)
    crash = next(result for result in results if result.case.kind == "crash")
    assert "Segmentation fault" in crash.detail  # where it crashed is told
    table = campaign_table.Table(list(ACTS))
    for result in results:
        table.add(result)
    table.write(tmp_path / "t.json", planned=12, seed=1, seconds=2.0)
    written = json.loads((tmp_path / "t.json").read_text())
    counts = {"cases": 10, "refused": 0, "read": 2, "internal": 4, "hang": 1, "memory": 2, "wrong": 1}
    assert written["total"] == counts
    page = (tmp_path / "t.md").read_text()
    assert "10 cases (of 12 planned) in 2 s, 8 faults" in page
    assert "| skipped (skipped: no such disk) | 0 |" in page
    assert "| **all** | **10** | **0** | **2** | **4** | **1** | **2** | **1** |" in page


def test_the_plan_shares_out_and_mixes() -> None:
    chosen = list(campaign.kinds().values())
    cases = campaign.plan(chosen, 10_000, seed=3)
    assert abs(len(cases) - 10_000) < 50
    assert len(set(cases)) == len(cases)
    assert min(case.number for case in cases) == 3 * campaign.SHARE_OF_SEED
    for part in (cases[:1000], cases[-1000:]):
        assert len({case.kind for case in part}) > 0.85 * len(chosen)


def test_a_kind_makes_the_same_case_again() -> None:
    for kind in campaign.kinds().values():
        if kind.name in ("png", "state dict zip", "COCO JSON", "arguments train"):
            assert kind.make({}, 5) == kind.make({}, 5)
            assert kind.make({}, 5) != kind.make({}, 6)


@pytest.mark.parametrize(
    "name", ["png", "jpeg", "tiff", "bmp", "webp", "state dict zip", "state dict stream"]
)
def test_pictures_and_weights(name: str, tmp_path: Path) -> None:
    """A short part of what the campaign does with these."""
    kind, place = campaign.kinds()[name], Place(tmp_path, {})
    found = [kind.run(kind.make({}, number), place) for number in range(150)]
    assert "refused" in found


def test_a_refusal_must_be_one_printable_line() -> None:
    def refuse() -> None:
        error = DataError("x")
        error.args = ("two\nlines",)
        raise error

    with pytest.raises(AssertionError, match="two"):
        outcome(refuse)
