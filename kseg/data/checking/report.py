"""What `kseg.data.check` found: findings, statistics of each split, suggested weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kseg.data.counting.counts import ClassCounts

SEVERITIES = ("error", "warning", "info")
SHOWN_FILES = 5
SUGGESTED = ("median_frequency", "sqrt_median", "inverse", "enet")


@dataclass
class Finding:
    """One kind of fault and the files that have it.

    Attributes:
        severity: `"error"` (training would be wrong or stop), `"warning"` (perhaps a mistake) or `"info"`.
        code: short stable name for machines, for example `"ids_out_of_range"`.
        message: what is wrong, one sentence.
        fix: what to do.
        files: some of the files concerned.
        count: how many files are concerned (0: not about files).
        details: numbers for machines.
    """

    severity: str
    code: str
    message: str
    fix: str = ""
    files: list[str] = field(default_factory=list)
    count: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class SplitReport:
    """Statistics of one split.

    Attributes:
        counts: pixels per class and void.
        sizes: `(height, width)` -> images.
        instances: number of instances (COCO folders), else None.
    """

    counts: ClassCounts
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    instances: int | None = None
    images: int = 0

    def size_summary(self) -> dict[str, Any]:
        """Return smallest, largest (by area) and most frequent `[height, width]`, and how many differ."""
        if not self.sizes:
            return {"different": 0}
        by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return {
            "different": len(self.sizes),
            "smallest": list(by_area[0]),
            "largest": list(by_area[-1]),
            "most_frequent": list(self.sizes.most_common(1)[0][0]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; shares are 0-1 of the valid pixels."""
        counts = self.counts
        result = {
            "images": self.images,
            "sizes": self.size_summary(),
            "pixels": counts.pixels.tolist(),
            "shares": counts.shares().tolist(),
            "images_with": counts.images_with.tolist(),
            "void_share": counts.void_share(),
        }
        return result if self.instances is None else {**result, "instances": self.instances}


@dataclass
class Report:
    """The outcome of `kseg.data.check`.

    Attributes:
        path: what was checked.
        kind: `"semantic"`, `"coco"` or `"tfds"`.
        classes: class names in index order.
        ignore_id: id of void after reading.
        limit: images read per split; None: all.
        splits: name -> statistics.
        findings: errors first.
    """

    path: str
    kind: str
    classes: tuple[str, ...]
    ignore_id: int
    limit: int | None = None
    splits: dict[str, SplitReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: str, code: str, message: str, fix: str = "", **rest: Any) -> None:
        """Add a finding; `files` beyond the first few are counted only. Errors stay first."""
        files = list(rest.pop("files", ()))
        self.findings.append(
            Finding(severity, code, message, fix, files[:SHOWN_FILES], rest.pop("count", len(files)), **rest)
        )
        self.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))

    @property
    def ok(self) -> bool:
        """Whether training on this data would be right: no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def weights(self) -> dict[str, list[float]]:
        """Return suggested class weights by scheme from the train split; empty when it has no pixel."""
        train = self.splits.get("train")
        if train is None or not train.counts.valid:
            return {}
        return {scheme: train.counts.weights(scheme).tolist() for scheme in SUGGESTED}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "path": self.path,
            "kind": self.kind,
            "ok": self.ok,
            "classes": list(self.classes),
            "ignore_id": self.ignore_id,
            "limit": self.limit,
            "splits": {name: split.to_dict() for name, split in self.splits.items()},
            "weights": self.weights(),
            "findings": [vars(finding) for finding in self.findings],
        }
