"""Write the masks of the embedded sample as one small file, so that the proof needs no pycocotools.

python -m benchmarks.gpu.make_masks
"""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.sample import MASKS
from kseg.data.sources.embedded import EmbeddedSample
from kseg.files import atomic


def packed() -> dict[str, np.ndarray]:
    """Return name -> mask as bits, row by row, and name/shape -> its (H, W)."""
    source = EmbeddedSample("nuclei")
    found = {}
    for split, count in source.splits.items():
        for index in range(count):
            sample, _ = source.stored(split, index)
            found[f"{split}/{sample.name}"] = np.packbits(sample.mask.astype(bool))
            found[f"{split}/{sample.name}/shape"] = np.asarray(sample.mask.shape, np.int32)
    return found


def main() -> None:
    """Write the file."""
    with atomic(MASKS) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **packed())


if __name__ == "__main__":
    main()
