"""Where caches lie."""

from __future__ import annotations

import os
from pathlib import Path

from kseg import files


def cache_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder: `given`, or `$KSEG_CACHE`, or `~/.cache/kseg`."""
    chosen = given or os.environ.get("KSEG_CACHE") or "~/.cache/kseg"
    return files.resolved(chosen)
