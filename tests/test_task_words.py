"""No file outside a task's own rooms knows that task: its words stand in no name and no text of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The tasks' own rooms: what they train with and are scored by, their networks, their rows.
ROOMS = (
    "kseg/semantic", "kseg/models/semantic", "kseg/losses", "kseg/instance", "kseg/models/instance",
    "kseg/layers/detection", "kseg/metrics", "kseg/tasks.py",
)  # fmt: skip
WORDS = re.compile(r"miou|(?<![a-z])iou(?![a-z])|logits|semantic", re.IGNORECASE)
# Where one stands for another reason -> what it may be part of.
ALLOWED = {
    # Overlap of boxes is nobody's own.
    "kseg/boxes.py": r"iou",
    "kseg/data/crops/cropping.py": r"(min_)?iou\b",
    "kseg/training/config.py": r"min_iou",
    # Names that 0.1 gave to options which every task has now; they are kept.
    "deploy/exporting.py": r"max_miou_drop",
    "deploy/verification.py": r"max_miou_drop",
    "kseg/cli/export.py": r"max_miou_drop",
    "kseg/cli/quickstart.py": r"--max-miou-drop",
    "kseg/cli/evaluate.py": r"--min-miou|mean IoU",
    "kseg/cli/verify.py": r"(--)?max.miou.drop|mean IoU|the IoU of",
    # A format of folders, and how instances are painted into one class map: what data are.
    "kseg/data": r"semantic",
    "kseg/cli/convert_data.py": r"(--)?semantic",
    # What a Spec and `register` mean that name no task.
    "kseg/spec.py": r"semantic",
    "kseg/models/registry.py": r"semantic",
    # Lists of networks and of public names, by their modules.
    "kseg/models/__init__.py": r"kseg\.models\.semantic\.",
    "kseg/cli/completion.py": r"kseg\.models\.semantic\.",
    "kseg/inference/__init__.py": r"_?semantic",
    "kseg/inference/refine.py": r"kseg\.semantic\.refine",
    # Parts of networks that score pixels.
    "kseg/layers/crf.py": r"logits",
    "kseg/models/forms.py": r"logits",
    "kseg/models/parts": r"logits",
    "kseg/saving.py": r"logits per pixel",
}  # fmt: skip


def _words(file: Path) -> Iterator[str]:
    """Names and texts of a file's code; docstrings and comments left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in documentation:
            continue
        for _, value in ast.iter_fields(node):
            yield from (
                word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)
            )


def _files() -> list[str]:
    found = (
        path.relative_to(ROOT).as_posix()
        for room in ("kseg", "deploy")
        for path in (ROOT / room).rglob("*.py")
    )
    return sorted(name for name in found if not name.startswith(ROOMS))


@pytest.mark.parametrize("name", _files())
def test_no_word_of_one_task(name: str) -> None:
    allowed = [pattern for place, pattern in ALLOWED.items() if name == place or name.startswith(f"{place}/")]
    for word in _words(ROOT / name):
        for pattern in allowed:
            word = re.sub(pattern, "", word, flags=re.IGNORECASE)
        assert not WORDS.search(word), f"{name}: {word!r}"


@pytest.mark.parametrize("place", ALLOWED)
def test_every_reason_is_needed(place: str) -> None:
    files = [ROOT / name for name in _files() if name == place or name.startswith(f"{place}/")]
    assert any(WORDS.search(word) for file in files for word in _words(file))
