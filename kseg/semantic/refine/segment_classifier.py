"""A classifier of segments: from pooled features to a class histogram; one file holds all of it.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3. `segment_training` makes the file.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import files, keras_file, records
from kseg.errors import ArtefactError, UsageError
from kseg.keras_file import SUFFIX
from kseg.segments.labels import Labels
from kseg.segments.tree import SegmentTree
from kseg.semantic.refine.scores import Image
from kseg.semantic.refine.segment_features import FeatureMaps, SegmentPooling
from kseg.spec import Spec
from kseg.text import printable

if TYPE_CHECKING:
    import keras

MEMBER = "kseg_segments.json"
_NO_CLASSIFIER = f"is no segment classifier: it lacks the member {MEMBER}. Make one with kseg train-segments"
# Segments that are pooled and classified at once; 768 maps on a 3 x 3 grid are 7 MB.
_AT_ONCE = 256


class _Facts(records.Record, frozen=True):
    """How the two networks in the file fit together."""

    spec: dict[str, Any]
    grid: Annotated[int, msgspec.Meta(ge=1, le=2**8)]
    stride: Annotated[int, msgspec.Meta(ge=1, le=2**16)]


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

        facts = keras_file.read_member(path, MEMBER, _Facts, without=_NO_CLASSIFIER)
        where = f"'{printable(path)}', member {MEMBER}"
        self.spec, self.grid = Spec.from_dict(facts.spec, where=where), facts.grid
        model = keras_file.load_network(path)
        image, segment, maps, histogram = _ends(model, path)
        features = self.grid**2 * maps.shape[-1]
        if segment.shape[1:] != (features,) or histogram.shape[1:] != (self.spec.num_classes,):
            raise ArtefactError(
                f"'{printable(path)}' is no segment classifier: it takes {segment.shape[1:]} features of a "
                f"segment and gives {histogram.shape[1:]}, and its spec needs {(features,)} and "
                f"{(self.spec.num_classes,)}"
            )
        self.maps = FeatureMaps(keras.Model(image, maps), self.spec, facts.stride)
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


def _ends(model: keras.Model, path: str | os.PathLike[str]) -> tuple[Any, Any, Any, Any]:
    """Return image, segment, maps and histogram, the two inputs and the two outputs."""
    ends = (*model.inputs, *model.outputs)
    if len(model.inputs) != 2 or [len(end.shape) for end in ends] != [4, 2, 4, 2]:
        raise ArtefactError(
            f"'{printable(path)}' is no segment classifier: its network must take an image and a segment and "
            f"give maps and a histogram. Received: shapes {[end.shape for end in ends]}"
        )
    return ends


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
