"""A classifier of segments: from pooled features to a class histogram; one file holds all of it.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3. `segment_training` makes the file.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg import files
from kseg.errors import ArtefactError, UsageError, first_line
from kseg.inference.refine.scores import Image
from kseg.inference.refine.segment_features import FeatureMaps, SegmentPooling
from kseg.inference.refine.superpixels import Labels
from kseg.inference.refine.tree import SegmentTree
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
MEMBER = "kseg_segments.json"
# Segments that are pooled and classified at once; 768 maps on a 3 x 3 grid are 7 MB.
_AT_ONCE = 256


class SegmentClassifier:
    """Says which classes a segment holds, and in which shares.

    Args:
        path: a file that `train_segment_classifier` wrote: the feature network, the classifier and how
            they fit together.

    Raises:
        ArtefactError: if the file is missing, damaged, or something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import keras

        # Importing the room registers every layer that the file may name.
        import kseg.layers  # noqa: F401

        facts = _read_facts(path)
        try:
            self.spec = Spec.from_dict(facts["spec"])
            self.grid, stride = int(facts["grid"]), int(facts["stride"])
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError) as error:
            raise ArtefactError(
                f"The segment classifier '{path}' cannot be rebuilt: {first_line(error)}"
            ) from error
        image, segment = model.inputs
        maps, histogram = model.outputs
        self.maps = FeatureMaps(keras.Model(image, maps), self.spec, stride)
        self.model = keras.Model(segment, histogram)

    def histograms(self, image: Image, labels: Labels, tree: SegmentTree) -> NDArray[np.float64]:
        """Return float64 `(2n-1, C)`: the class histogram of every node of the tree.

        Args:
            image: uint8 `(H, W, 3)` RGB.
            labels: superpixel ids `(H, W)`, n of them.
            tree: over these superpixels.
        """
        import keras

        maps, pitch = self.maps(image)
        pooling = SegmentPooling(maps, pitch, labels, tree, self.grid)
        nodes = np.arange(tree.size)
        parts = [
            keras.ops.convert_to_numpy(self.model(pooling(nodes[first : first + _AT_ONCE]), training=False))
            for first in range(0, tree.size, _AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float64)

    def close(self) -> None:
        """Free both networks."""
        self.maps.close()
        del self.model


def write(
    path: str | os.PathLike[str],
    extractor: keras.Model,
    classifier: keras.Model,
    spec: Spec,
    *,
    grid: int,
    stride: int,
) -> None:
    """Write a segment classifier to one `.keras` file, whole or not at all.

    Args:
        path: must end in `.keras`.
        extractor: image -> maps.
        classifier: pooled features `(B, grid * grid * D)` -> class histograms `(B, C)`.
        spec: of the network that the features come from.
        grid: cells per side.
        stride: pixels per position of the maps.

    Raises:
        UsageError: if the path has another suffix.
    """
    import keras

    checked_path(path)
    both = keras.Model(
        [extractor.inputs[0], classifier.inputs[0]], [extractor.outputs[0], classifier.outputs[0]]
    )
    facts = {"spec": spec.to_dict(), "grid": grid, "stride": stride}
    with files.atomic(path) as temporary:
        both.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(facts, ensure_ascii=False, indent=1))


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it can be written.

    Raises:
        UsageError: if it does not end in `.keras`.
    """
    if Path(path).suffix != SUFFIX:
        raise UsageError(f"A segment classifier's file must end in '{SUFFIX}'. Received: path='{path}'")
    return Path(path)


def _read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ArtefactError(f"The segment classifier '{file}' {what}; expected a file")
    try:
        with zipfile.ZipFile(file) as archive:
            if MEMBER not in archive.namelist():
                raise ArtefactError(
                    f"'{file}' is no segment classifier: it lacks the member {MEMBER}. Make one with "
                    "kseg train-segments"
                )
            bad = archive.testzip()
            if bad is not None:
                raise ArtefactError(
                    f"'{file}' is damaged: its member {bad} fails the checksum. Copy it again"
                )
            facts: dict[str, Any] = json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(f"The segment classifier '{file}' is damaged: {error}. Copy it again") from error
    return facts
