"""Train a classifier of segments on pairs of pooled features and true class histograms.

Farabet, Couprie, Najman, LeCun, TPAMI 2013, section 4.3. The hidden layer's size and the grid are known here
from secondary texts only, so they are arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseg import saving
from kseg.checks import check_choice
from kseg.data.merged import check_classes
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.segments.labels import Labels
from kseg.segments.tree import LINKAGES
from kseg.semantic.refine import segment_classifier
from kseg.semantic.refine.arguments import checked
from kseg.semantic.refine.scores import Floats
from kseg.semantic.refine.segment_features import FeatureMaps, SegmentPooling
from kseg.semantic.refine.superpixels import Superpixels
from kseg.semantic.refine.tree import build_tree

if TYPE_CHECKING:
    import keras


def true_counts(mask: NDArray[Any], labels: Labels, classes: int, ignore_id: int) -> NDArray[np.int64]:
    """Return int64 `(superpixels, classes)`: labelled pixels of each class; ignored ones count nowhere.

    Args:
        mask: class ids `(H, W)` or the ignore id.
        labels: superpixel ids `(H, W)`.
        classes: how many there are.
        ignore_id: id of pixels without a label.

    Raises:
        DataError: if the mask holds another id.
    """
    valid = mask != ignore_id
    ids = mask[valid].astype(np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < classes:
        raise DataError(f"The mask holds ids from {ids.min()} to {ids.max()}; expected 0 to {classes - 1}")
    count = int(labels.max()) + 1
    return np.bincount(labels[valid] * classes + ids, minlength=count * classes).reshape(count, classes)


def collect_segments(
    maps: FeatureMaps,
    samples: Sequence[Any],
    *,
    grid: int = 3,
    per_image: int = 64,
    linkage: str = "average",
    smoothing: float = 1.0,
    superpixels: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return pooled features and true histograms of segments drawn from the trees of labelled images.

    Args:
        maps: the feature network.
        samples: images with their masks, for example `kseg.data.open(source).samples("train")`.
        grid: cells per side of the pooling.
        per_image: segments drawn from one image, without repetition; fewer where the tree is small. Memory:
            `per_image * images * grid * grid * D * 4` bytes.
        linkage: see `tree.build_tree`.
        smoothing: see `TreeCover`.
        superpixels: arguments of `Superpixels`.
        seed: of the drawing.

    Returns:
        float32 `(M, grid * grid * D)` and float32 `(M, C)` with rows that sum to 1; segments without a
        labelled pixel are left out.

    Raises:
        DataError: if no segment has a label, or a mask does not fit.
    """
    cut = Superpixels(**(superpixels or {}))
    check_choice("linkage", linkage, LINKAGES)
    spec = maps.spec
    data = getattr(samples, "spec", spec)
    check_classes(spec, data)
    random = np.random.default_rng(seed)
    features, histograms = [], []
    for sample in samples:
        if sample.mask.shape != sample.image.shape[:2]:
            raise DataError(f"Sample '{sample.name}': mask and image are not of the same size")
        labels = cut(sample.image)
        tree = build_tree(labels, sample.image, linkage, smoothing)
        counts = tree.sums(true_counts(sample.mask, labels, spec.num_classes, data.ignore_id))
        labelled = np.flatnonzero(counts.sum(axis=1))
        nodes = random.permutation(labelled)[:per_image]
        if not len(nodes):
            continue
        features.append(SegmentPooling(*maps(sample.image), labels, tree, grid)(nodes))
        histograms.append((counts[nodes] / counts[nodes].sum(axis=1, keepdims=True)).astype(np.float32))
    if not features:
        raise DataError("No segment has a labelled pixel: there is nothing to learn from")
    return np.concatenate(features), np.concatenate(histograms)


def train_segment_classifier(
    model: keras.Model | str | os.PathLike[str],
    samples: Sequence[Any],
    path: str | os.PathLike[str],
    *,
    layer: str = "features",
    grid: int = 3,
    hidden: int = 1024,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    per_image: int = 64,
    linkage: str = "average",
    smoothing: float = 1.0,
    superpixels: Mapping[str, Any] | None = None,
    seed: int = 0,
    callbacks: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """Train the segment classifier of a network and write it where `tree-cover:classifier=FILE` reads it.

    One hidden layer of tanh, softmax, Kullback-Leibler divergence to the true histograms, Adam, plain
    `model.fit`; the network that makes the features stays as it is. Give the same `linkage`, `smoothing`
    and `superpixels` here and to the refiner.

    Args:
        model: a trained network with a Spec, or its `.keras` file.
        samples: labelled images.
        path: the file to write, ending in `.keras`.
        layer: the network's layer whose output are the features, for example FarabetNet's `"features"`.
        grid: cells per side of the pooling; 3 and 5 are both told of the paper.
        hidden: units of the hidden layer; 1024 is the paper's.
        epochs: passes over the segments.
        batch_size: segments per step.
        learning_rate: of Adam.
        per_image: segments drawn from one image; see `collect_segments` for the memory.
        linkage: see `tree.build_tree`.
        smoothing: see `TreeCover`.
        superpixels: arguments of `Superpixels`.
        seed: of drawing, initial weights and shuffling.
        callbacks: Keras callbacks of the fit.

    Returns:
        `"segments"`: how many were learned from; `"kl"`: divergence in nats after each epoch; `"kl_prior"`:
        what always answering their mean histogram would give.

    Raises:
        UsageError: if an argument is out of range, the network has no such layer, or no Spec.
        DataError: if no segment has a label.

    Example:
        >>> samples = kseg.data.open("camvid").samples("train")
        >>> train_segment_classifier("runs/farabet/model.keras", samples, "segments.keras")
    """
    import keras

    segment_classifier.checked_path(path)
    grid, hidden = checked("grid", grid, 1, 64, whole=True), checked("hidden", hidden, 1, 1e6, whole=True)
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("per_image", per_image)):
        checked(name, value, 1, 1e9, whole=True)
    network = saving.load(model) if isinstance(model, str | os.PathLike) else model
    extractor = keras.Model(network.inputs[0], _layer_output(network, layer))
    maps = FeatureMaps(extractor, getattr(network, "spec", None))  # type: ignore[arg-type]
    features, histograms = collect_segments(
        maps,
        samples,
        grid=grid,
        per_image=per_image,
        linkage=linkage,
        smoothing=smoothing,
        superpixels=superpixels,
        seed=seed,
    )
    keras.utils.set_random_seed(seed)
    classifier = _classifier(features.shape[1], hidden, histograms.shape[1])
    classifier.compile(keras.optimizers.Adam(learning_rate), keras.losses.KLDivergence())
    history = classifier.fit(
        features, histograms, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )
    segment_classifier.write(path, extractor, classifier, maps.spec, grid=grid, stride=maps.stride)
    prior = histograms.mean(axis=0)
    ratio = np.maximum(histograms, 1e-7) / np.maximum(prior, 1e-7)
    return {
        "segments": len(features),
        "kl": [float(value) for value in history.history["loss"]],
        "kl_prior": float((histograms * np.log(ratio)).sum(axis=1).mean()),
    }


def _layer_output(network: keras.Model, layer: str) -> Any:
    names = [item.name for item in network.layers]
    if layer not in names:
        raise UsageError(
            f"The network '{network.name}' has no layer '{layer}'.{did_you_mean(layer, names)} "
            f"Its last ones are: {', '.join(names[-6:])}"
        )
    return network.get_layer(layer).output


def _classifier(length: int, hidden: int, classes: int) -> keras.Model:
    import keras

    segment = keras.Input((length,), name="segment")
    x = keras.layers.Dense(hidden, activation="tanh", name="segment_hidden")(segment)
    return keras.Model(segment, keras.layers.Dense(classes, activation="softmax", name="histogram")(x))
