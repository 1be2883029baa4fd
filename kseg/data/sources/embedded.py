"""The samples that the package carries: `sample:nuclei`."""

from __future__ import annotations

from pathlib import Path

from kseg.data.sources.coco_folder import CocoFolder
from kseg.data.sources.source import NO_OPTIONS, Options
from kseg.errors import UsageError, did_you_mean
from kseg.text import printable

SAMPLES = Path(__file__).parents[1] / "samples"


class EmbeddedSample(CocoFolder):
    """A COCO folder in the package."""

    def __init__(self, place: str, options: Options = NO_OPTIONS) -> None:
        known = sorted(entry.name for entry in SAMPLES.iterdir() if (entry / "images").is_dir())
        if place not in known:
            raise UsageError(
                f"There is no embedded sample '{printable(place)}'.{did_you_mean(place, known)} "
                f"Known: {', '.join(known)}"
            )
        super().__init__(SAMPLES / place, options)
        self.name = f"sample:{place}"
