"""R-CNN's box regression: how far a box is from its object, for each class linear in the encoder's features.

Girshick, Donahue, Darrell, Malik, CVPR 2014, appendix C, and `rcnn_train_bbox_regressor.m` of its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg.boxes import moves
from kseg.errors import require
from kseg.instance.sds.candidates import Candidates, Scene, near_objects
from kseg.instance.sds.crops import in_batches
from kseg.instance.sds.features import to_mean_norm
from kseg.progress import Progress, Say

if TYPE_CHECKING:
    import keras

# Overlap of boxes that a proposal needs with its object, and the release's lambda.
ENOUGH, LAMBDA = 0.6, 1000.0
# Proposals of a class that are learned from at most: features of the paper's network are 9216 numbers.
_MOST, _BATCH = 2000, 64


def train_moves(
    network: keras.Model, candidates: Candidates, classes: int, *, seed: int = 0, say: Say, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return weights `(D, C - 1, 4)` and constants `(C - 1, 4)` of `kseg.boxes.moves`, and pairs by class.

    Args:
        network: has a layer `box_flat`.
        candidates: the regions.
        classes: with the background.
        seed: of the drawing.
        say: takes a line about the pairs.
        progress: wraps the loop over the images.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
    """
    import keras

    pairs = near_objects(candidates.overlaps, "box", ENOUGH, _MOST, np.random.default_rng(seed))
    say(f"box regression: {len(pairs)} proposals with an overlap of {ENOUGH} and more")
    look = keras.Model(network.input, network.get_layer("box_flat").output)
    features = np.zeros((len(pairs), look.output.shape[-1]), np.float32)
    targets = np.zeros((len(pairs), 4))
    places = np.unique(pairs[:, 0])
    for place in progress(places.tolist(), len(places), "boxes of objects"):
        here = np.flatnonzero(pairs[:, 0] == place)
        scene, rows = candidates.scene(place), pairs[here, 1]
        features[here] = _looked(look, scene, rows)
        targets[here] = [moves(scene.box(row), scene.box(item)) for row, item in pairs[here, 1:3]]
    kinds = pairs[:, 3]
    weights, constants = fit_moves(features, targets, kinds, classes)
    return weights, constants, np.bincount(kinds, minlength=classes)[1:]


def _looked(look: keras.Model, scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what a network gives for some regions of an image, `(N, D)`."""
    batches = in_batches(lambda some: scene.crops(rows[some]), len(rows), _BATCH)
    return np.concatenate(
        [np.asarray(look.predict_on_batch(batch), np.float32)[:real] for batch, real in batches]
    )


def fit_moves(
    features: NDArray[np.float32], targets: NDArray[Any], kinds: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights `(D, C - 1, 4)` and constants `(C - 1, 4)`: a ridge regression for each class.

    A class without a box to learn from leaves boxes where they are.

    Args:
        features: `(N, D)`; they are learned from at a mean norm of 20, which goes into the weights.
        targets: `(N, 4)`.
        kinds: class of each, 1 or more.
        classes: with the background.
    """
    linear: Any = require("sklearn.linear_model", "sds")
    weights = np.zeros((features.shape[1], classes - 1, 4), np.float32)
    constants = np.zeros((classes - 1, 4), np.float32)
    scale = to_mean_norm(np.linalg.norm(features, axis=1)) if len(features) else 1.0
    for kind in np.unique(kinds):
        own = kinds == kind
        found = linear.Ridge(alpha=LAMBDA, solver="cholesky").fit(features[own] * scale, targets[own])
        weights[:, kind - 1], constants[kind - 1] = found.coef_.T * scale, found.intercept_
    return weights, constants
