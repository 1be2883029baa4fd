"""Write the masks of the embedded sample as one small file, so that the proof needs no pycocotools.

python -m benchmarks.gpu.make_masks
"""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.sample import MASKS
from kseg.data.sources.source import SAMPLES, FolderSource
from kseg.files import atomic


def packed() -> dict[str, np.ndarray]:
    """Return name -> mask as bits, row by row, and name/shape -> its (H, W)."""
    source = FolderSource(SAMPLES / "nuclei", name="sample:nuclei")
    found = {}
    for split, count in source.splits.items():
        for index in range(count):
            name, content, _ = source.read(split, index)
            found[f"{split}/{name}"] = np.packbits(content.mask.astype(bool))
            found[f"{split}/{name}/shape"] = np.asarray(content.mask.shape, np.int32)
    return found


def main() -> None:
    """Write the file."""
    with atomic(MASKS) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **packed())


if __name__ == "__main__":
    main()
