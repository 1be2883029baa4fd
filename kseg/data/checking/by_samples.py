"""The check of a source through its samples: ids, sizes and shares; its files are the format's business."""

from __future__ import annotations

from collections.abc import Iterator

from kseg.data.checking.facts import Facts, size_text
from kseg.data.checking.report import Report
from kseg.data.checking.tally import Tally, add_missing_splits
from kseg.data.counting.counts import id_counts
from kseg.data.sources.source import Source
from kseg.data.threads import Progress


def check_samples(source: Source, limit: int | None, progress: Progress | None) -> Report:
    """Check what `source.samples` gives; see `kseg.data.check`."""
    report = Report(source.name, source.kind, source.spec.classes, source.spec.ignore_id, limit)
    tally = Tally(report, source.spec)
    add_missing_splits(report, list(source.splits))

    def facts() -> Iterator[Facts]:
        for split in source.splits:
            for sample in source.samples(split, limit):
                seen = Facts(split, f"{split}/{sample.name}", size=sample.image.shape[:2])
                seen.counts = id_counts(sample.mask)
                if sample.mask.shape != seen.size:
                    seen.fault("size_mismatch", seen.where, size_text(sample.mask.shape, sample.image.shape))
                yield seen

    total = sum(min(count, limit or count) for count in source.splits.values())
    for entry in progress(facts(), total) if progress else facts():
        tally.add(entry)
    tally.finish()
    return report
