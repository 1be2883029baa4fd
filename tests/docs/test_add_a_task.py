"""docs/add-a-task.md shows pieces of a task that tests take the whole road."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add-a-task.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests" / "tasks"
TASK = (TESTS / "mean_color.py").read_text(encoding="utf-8")
INSIDE = (TESTS / "object_colors.py").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def _lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_code_that_tests_run(block: str) -> None:
    """Line by line: methods stand on the page without the indentation of their class."""
    assert len(block) > 50
    assert _lines(block) in _lines(TASK) or _lines(block) in _lines(INSIDE)


def test_the_page_shows_all_parts() -> None:
    for word in ("outputs", "encode", "Goal", "Scorer", "Predictor", "pictures", "tables", "page"):
        assert word in PAGE
    assert len(BLOCKS) >= 8
    assert _lines(BLOCKS[-1]) == _lines(TASK)
