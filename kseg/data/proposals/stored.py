"""Proposals kept on disk, a file per image: found once, whatever else is trained on them.

A file's name says method, arguments, versions and the image's pixels. It is written whole or not at all, and
one that does not read, or holds something else, is made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kseg import archives, files
from kseg.boxes import Boxes
from kseg.data.cache.place import cache_dir
from kseg.data.proposals.boundaries import detector_version
from kseg.data.proposals.found import Proposals
from kseg.data.proposals.searching import Proposer
from kseg.errors import ArtefactError, require

_LOG = logging.getLogger("kseg")
# To be raised when a method finds something else than before, or a file holds it differently.
_VERSION = 1
_DIGEST_BYTES = 20
_PLAIN, _MASKS = {"key", "boxes", "scores"}, {"superpixels", "members", "count"}
_writing = threading.Lock()


class StoredProposer:
    """Finds proposals as a `Proposer` does, and keeps them: each image is searched once.

    Args:
        proposer: what finds them.
        cache: the folder. Default: `$KSEG_CACHE` or `~/.cache/kseg`; files lie below `proposals` in it.

    Example:
        >>> stored = StoredProposer(Proposer(method="regions"))
        >>> for sample in samples:
        ...     found = stored.find(sample.image)
    """

    def __init__(self, proposer: Proposer, cache: str | os.PathLike[str] | None = None) -> None:
        self.proposer = proposer
        self.folder = cache_dir(cache) / "proposals"
        self._about = json.dumps(_about(proposer), sort_keys=True).encode()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Return the boxes alone, as `Proposer` does."""
        return self.find(image).distinct_boxes()

    def find(self, image: NDArray[np.uint8]) -> Proposals:
        """Return what `Proposer.find` does, from disk where it is there.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = self.path(image)
        if path.is_file():
            try:
                return _read(path, (image.shape[0], image.shape[1]))
            except (ArtefactError, OSError) as error:
                _LOG.warning("Proposals are found again: %s", error)
        found = self.proposer.find(image)
        with _writing:
            _write(path, found)
        return found

    def path(self, image: NDArray[np.uint8]) -> Path:
        """Return the file of an image's proposals, whether it is there or not."""
        digest = hashlib.blake2b(self._about, digest_size=_DIGEST_BYTES)
        digest.update(f"{image.dtype} {image.shape}".encode())
        digest.update(image.tobytes())
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.npz"


def _about(proposer: Proposer) -> dict[str, Any]:
    """Return everything but the image that proposals depend on."""
    about: dict[str, Any] = {
        **dataclasses.asdict(proposer),
        "version": _VERSION,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }
    if proposer.edge_model is not None:
        about["edge_model"] = hashlib.blake2b(Path(proposer.edge_model).read_bytes()).hexdigest()
    if proposer.boundaries is not None:
        about["boundaries"] = detector_version(proposer.boundaries)
    if proposer.method == "regions":
        about["scikit-image"] = require("skimage", "refine").__version__
    return about


def _write(path: Path, found: Proposals) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "key": np.frombuffer(bytes.fromhex(path.stem), np.uint8),
        "boxes": found.boxes,
        "scores": found.scores,
    }
    if found.superpixels is not None and found.members is not None:
        arrays["superpixels"] = found.superpixels
        arrays["members"] = np.packbits(found.members, axis=1)
        arrays["count"] = np.array([found.members.shape[1]])
    with files.atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def _read(path: Path, size: tuple[int, int]) -> Proposals:
    where = f"'{path.name}'"
    with archives.open_archive(path, where=where, alien="is no whole archive") as archive:
        arrays = archives.read_arrays(archive, where=where)
    names = set(arrays)
    if names not in (_PLAIN, _PLAIN | _MASKS) or arrays["key"].tobytes() != bytes.fromhex(path.stem):
        raise ArtefactError(f"{where} holds something else than its name says")
    superpixels = members = None
    if names > _PLAIN:
        superpixels, packed, count = arrays["superpixels"], arrays["members"], arrays["count"]
        if count.shape != (1,) or packed.dtype != np.uint8 or packed.ndim != 2:
            raise ArtefactError(f"{where} does not hold the members of regions")
        if not 0 < count[0] <= 8 * packed.shape[1] < count[0] + 8:
            raise ArtefactError(f"{where} does not hold {count[0]} superpixels")
        members = np.unpackbits(packed, axis=1, count=int(count[0])).astype(bool)
    found = Proposals(
        boxes=arrays["boxes"].copy(),
        scores=arrays["scores"].copy(),
        superpixels=None if superpixels is None else superpixels.copy(),
        members=members,
    )
    wrong = found.fault(size)
    if wrong:
        raise ArtefactError(f"{where}: {wrong}")
    return found
