"""What the network says of every region of every training image, kept on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg import files
from kseg.instance.sds.candidates import Candidates
from kseg.instance.sds.crops import in_batches
from kseg.instance.sds.outputs import CELLS
from kseg.layers.cell_means import cell_weights
from kseg.progress import Progress, silent

if TYPE_CHECKING:
    import keras

# What the releases of R-CNN and SDS scale features to.
MEAN_NORM = 20.0
# Crops that the network is given at once.
_BATCH = 64


def cells_of(mask: NDArray[Any]) -> NDArray[np.float32]:
    """Return the means of a mask's `(height, width)` crop over the cells of the coarse grid: `(100,)`."""
    down, across = (cell_weights(side, CELLS) for side in mask.shape)
    return (down @ mask @ across.T).reshape(-1)


def to_mean_norm(norms: NDArray[np.floating]) -> float:
    """Return the factor that gives features of these norms a mean norm of 20."""
    return float(MEAN_NORM / max(norms.mean(), 1e-9))


class Features:
    """Features of the regions of each image: those of the network, and the cells of the region's own mask.

    They are kept as float16, a file per image, and mapped when they are read: 16 MB for 1000 regions of the
    paper's network.

    Args:
        folder: where the files lie.
        count: of images.
    """

    def __init__(self, folder: str | os.PathLike[str], count: int) -> None:
        self._folder, self._count = Path(folder), count

    def __len__(self) -> int:
        return self._count

    def of(self, place: int) -> NDArray[np.float32]:
        """Return the network's features of an image's regions, `(R, D)`."""
        return np.asarray(np.load(self._path(place), mmap_mode="r")[:, : -(CELLS**2)], np.float32)

    def rows(self, place: int, chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return features and cells of some regions, `(N, D + 100)`."""
        return np.asarray(np.load(self._path(place), mmap_mode="r")[chosen], np.float32)

    def _path(self, place: int) -> Path:
        return self._folder / f"{place:06d}.npy"

    def extract(self, network: keras.Model, candidates: Candidates, progress: Progress | None = None) -> None:
        """Write the files that are not there yet.

        Args:
            network: has a layer `features`.
            candidates: the regions.
            progress: wraps the loop over the images.
        """
        import keras

        look = keras.Model(network.input, network.get_layer("features").output)
        places = (progress or silent)(range(len(candidates)), len(candidates), "computing features")
        for place in places:
            path = self._path(place)
            if path.is_file():
                continue
            scene, parts = candidates.scene(place), []
            for batch, real in in_batches(scene.crops, len(candidates.overlaps[place]), _BATCH):
                given = np.asarray(look.predict_on_batch(batch), np.float32)[:real]
                cells = np.stack([cells_of(crop[..., 3]) for crop in batch[:real]])
                parts.append(np.concatenate([given, cells], axis=1))
            with files.atomic(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate(parts).astype(np.float16))

    def scale(self) -> float:
        """Return the factor that gives features a mean norm of 20."""
        norms = [np.linalg.norm(self.of(place), axis=1) for place in range(len(self))]
        return to_mean_norm(np.concatenate(norms))
