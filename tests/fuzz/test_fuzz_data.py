"""A short seeded part of the attack on `kseg.data`: nothing but data, or one line that says what is wrong."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest
import targets_data


@pytest.mark.parametrize("seed", [0, 1])
def test_mutated_json_is_data_or_one_line(tmp_path: Path, seed: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    counts = targets_data.run(tmp_path, 60, seed)
    assert all(0 < entry["refused"] <= entry["cases"] for entry in counts.values()), counts
    # 240 cases: far from a hang, and far from the gigabytes that one bad number could ask for.
    assert time.process_time() - start < 60
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 300e6
