"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets `camvid`, `nuclei` and `coco_mini`, or skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KSEG_DATA", default))
    if not (folder / "camvid" / "classes.json").is_file():
        pytest.skip(f"real data sets not found at {folder} (set KSEG_DATA)")
    return folder
