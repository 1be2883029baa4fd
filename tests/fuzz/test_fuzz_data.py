"""A short seeded part of the attack on `kseg.data`: nothing but data, or one line that says what is wrong."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest
import targets_data
from cases import Kind, Place

CASES = 90


@pytest.mark.parametrize("kind", targets_data.KINDS, ids=lambda kind: kind.name)
def test_mutated_json_is_data_or_one_line(kind: Kind, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    place = Place(tmp_path, {})
    found = [kind.run(kind.make({}, number), place) for number in range(CASES)]
    assert 0 < found.count("refused") <= CASES
    # Far from a hang, and far from the gigabytes that one bad number could ask for.
    assert time.process_time() - start < 60
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 300e6
