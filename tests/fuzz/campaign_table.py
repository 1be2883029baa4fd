"""The campaign's table: counted per kind, written as JSON and as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from campaign_pool import FAULTS, HANG, INTERNAL, MEMORY, READ, REFUSED, SKIPPED, WRONG, Result

COLUMNS = {
    REFUSED: "refused in one line",
    READ: "read",
    INTERNAL: "internal errors",
    HANG: "hangs > 20 s",
    MEMORY: "above 2 GiB",
    WRONG: "wrong results",
}
LIBRARIES = (
    "kseg", "keras", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "numpy", "pillow",
    "opencv-contrib-python-headless", "h5py", "msgspec", "tensorflow-datasets",
)  # fmt: skip
_EXPLANATION = (
    "A hang is a case that used more than 20 s of processor time, or took 60 s by the clock (the dataset",
    "cache twice, what starts processes of its own 15 to 30 times as much); memory is counted above the",
    "worker's start. Wrong results: a spoiled artefact that was read and answers otherwise than the good one",
    "although a digest covers what was spoiled, ids outside the classes, a refusal that leaves files, an",
    "answer that is another thread's, a resumed training with other weights.",
)


class Table:
    """Counts results.

    Args:
        kinds: names of the rows, in order.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
        self._slowest: dict[str, float] = dict.fromkeys(kinds, 0.0)
        self._reasons: dict[str, str] = {}
        self._about: dict[str, Any] = {}

    def add(self, result: Result) -> None:
        kind = result.case.kind
        self._counts[kind][result.status] += 1
        self._slowest[kind] = max(self._slowest[kind], result.seconds)
        if result.status == SKIPPED:
            self._reasons[kind] = result.detail

    @property
    def cases(self) -> int:
        """Cases that ran; what was skipped did not."""
        return sum(sum(counts.values()) - counts[SKIPPED] for counts in self._counts.values())

    @property
    def faults(self) -> int:
        return sum(counts[status] for counts in self._counts.values() for status in FAULTS)

    def _row(self, counts: Counter[str]) -> list[int]:
        return [sum(counts.values()) - counts[SKIPPED], *(counts[status] for status in COLUMNS)]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        names = ("cases", *COLUMNS)
        rows = [
            {
                "kind": kind,
                **dict(zip(names, self._row(counts), strict=True)),
                "slowest_s": round(self._slowest[kind], 2),
                **({"skipped": self._reasons[kind]} if kind in self._reasons else {}),
            }
            for kind, counts in self._counts.items()
        ]
        total = dict(zip(names, self._row(sum(self._counts.values(), Counter())), strict=True))
        return {**self._about, "total": total, "kinds": rows}

    def markdown(self) -> str:
        """Return the table as a page."""
        about = self._about
        versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
        lines = [
            "# The last campaign",
            "",
            f"`make fuzz`, {about.get('date')}, seed {about.get('seed')}: {self.cases:,} cases "
            f"(of {about.get('planned', 0):,} planned) in {about.get('seconds', 0):,} s, "
            f"{self.faults} faults.",
            f"Python {about.get('python')}, {versions}.",
            "",
            *_EXPLANATION,
            "",
            "| kind | cases | " + " | ".join(COLUMNS.values()) + " |",
            "|---|" + "---:|" * (1 + len(COLUMNS)),
        ]
        for kind, counts in self._counts.items():
            reason = f" (skipped: {self._reasons[kind]})" if kind in self._reasons else ""
            lines.append(f"| {kind}{reason} | " + " | ".join(map(str, self._row(counts))) + " |")
        total = self._row(sum(self._counts.values(), Counter()))
        lines.append("| **all** | " + " | ".join(f"**{count}**" for count in total) + " |")
        return "\n".join(lines) + "\n"

    def write(self, path: Path, *, planned: int, seed: int, seconds: float) -> None:
        """Write JSON to `path` and Markdown beside it."""
        from kseg import files

        self._about = {
            "date": datetime.date.today().isoformat(),
            "seed": seed,
            "planned": planned,
            "seconds": round(seconds),
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }
        files.write_json(path, self.to_dict())
        files.write_text(path.with_suffix(".md"), self.markdown())
