"""Training on sampled pixels: patches with the label of their centre, or sparse labels of whole images.

Both are the same training (Long et al., FCN, section 3.4): the loss of a dense network over chosen centres
is that of its patch network over their receptive fields. Patches pay for each receptive field anew; sparse
labels share the work between neighbours, but only centres in the images of the batch can be drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kseg.data.cache.memory import DecodedCache
from kseg.data.counting.counts import id_counts
from kseg.data.sample import Sample
from kseg.data.transforms.normalize import preprocess
from kseg.errors import DataError, UsageError
from kseg.layers.mirror import mirrored
from kseg.models.forms import IMAGE, MAIN, Head
from kseg.spec import Spec

Centres = NDArray[np.int64]


def check_classes(found: Iterable[int], spec: Spec, images: int) -> None:
    """Refuse to sample where fewer than two classes are labelled: a classifier would learn nothing.

    Raises:
        DataError: naming the class that was found, if any.
    """
    names = [f"'{spec.classes[index]}'" for index in found]
    if len(names) < 2:
        raise DataError(
            "Sampling needs labelled pixels of at least two classes. Labelled in these "
            f"{images} images: {', '.join(names) or 'none'}. Use a split with more classes, or --sampling all"
        )


def balancing_weights(presence: NDArray[np.float64], batch_size: int) -> NDArray[np.float64]:
    """Return the class weights that make up for the batches in which a class cannot be drawn.

    `SparseLabels` gives equal shares to the classes that a batch shows. A class that few images hold is
    therefore drawn less often, and counts as much as the others with a weight of one over its share.

    Args:
        presence: share of the images that hold each class, in [0, 1]; classes are taken as independent.
        batch_size: images per batch.

    Returns:
        One weight per class, with a mean of one over the drawn pixels; 0 for a class that no image holds.
    """
    held = 1 - (1 - presence) ** batch_size
    drawn = np.flatnonzero(held)
    shares = np.zeros(len(held))
    for label in drawn:
        # Chances that 0, 1, 2, … of the other classes are shown too; a class among n gets 1 / n.
        others = np.ones(1)
        for chance in held[drawn[drawn != label]]:
            others = np.convolve(others, (1 - chance, chance))
        shares[label] = held[label] * (others / np.arange(1, len(others) + 1)).sum()
    weights = np.zeros(len(held))
    weights[drawn] = shares.sum() / (len(drawn) * shares[drawn])
    return weights


class CentreSampler:
    """Draws labelled pixels of a split: uniformly over all of them, or each class equally often.

    Args:
        samples: sequence of `kseg.data.Sample`; every mask is read once, to count classes.
        spec: classes and ignore id of the data.
        balanced: whether the classes that occur are drawn in turn.
        cache: keep decoded images in memory: `"auto"`, `"memory"` or `"none"`, as `kseg.data.Batches`.

    Raises:
        DataError: if fewer than two classes are labelled: a classifier would learn nothing.
    """

    def __init__(self, samples: Sequence[Any], spec: Spec, balanced: bool, cache: str = "auto") -> None:
        self.samples = samples
        self.spec = spec
        self.balanced = balanced
        self._cache = DecodedCache(cache)
        self.counts = np.stack([self._count(index) for index in range(len(samples))])
        self.classes = np.flatnonzero(self.counts.sum(axis=0))
        check_classes(self.classes, spec, len(samples))

    def _count(self, index: int) -> NDArray[np.int64]:
        mask = self.read(index).mask
        return np.bincount(mask[mask < self.spec.num_classes].ravel(), minlength=self.spec.num_classes)

    def read(self, index: int) -> Sample:
        """Return one sample, from memory where it fits."""
        return self._cache.get(index, self.samples.__getitem__)

    def draw(self, count: int, rng: np.random.Generator) -> Centres:
        """Return `(count, 4)` rows of (image, row, column, class), the class being the label there.

        Balanced, no class is drawn more than once more often than another.
        """
        if self.balanced:
            turns = -(-count // len(self.classes))
            wanted = np.concatenate([rng.permutation(self.classes) for _ in range(turns)])[:count]
        else:
            shares = self.counts.sum(axis=0)
            wanted = rng.choice(len(shares), count, p=shares / shares.sum())
        rows = np.empty((count, 4), np.int64)
        for row, label in enumerate(wanted):
            pixels = self.counts[:, label]
            image = int(rng.choice(len(pixels), p=pixels / pixels.sum()))
            mask = self.read(image).mask
            # The n-th pixel of the class in row order.
            place = np.flatnonzero(mask.ravel() == label)[rng.integers(pixels[image])]
            rows[row] = (image, *divmod(int(place), mask.shape[1]), label)
        return rows


class PatchBatches(keras.utils.PyDataset):
    """Batches of (patch, label of its centre) for a network's patch form.

    `batches[i]` gives float32 `(B, size, size, 3)`, normalised, and int32 `(B, 1, 1)`; it depends on
    `(seed, epoch, i)` only. Void pixels are never centres, though they may lie in a patch.

    Args:
        sampler: draws the centres.
        spec: the data set's spec, with the network's normalisation.
        size: side of a patch.
        centre: index of the labelled pixel in both directions.
        batch_size: patches per step.
        per_epoch: patches per epoch; at least one batch is given.
        seed: non-negative integer.
        flip: probability of a left-right flip of the patch.
    """

    def __init__(
        self,
        sampler: CentreSampler,
        spec: Spec,
        *,
        size: int,
        centre: int,
        batch_size: int,
        per_epoch: int,
        seed: int = 0,
        flip: float = 0.5,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.sampler, self.spec = sampler, spec
        self.size, self.centre = size, centre
        self.batch_size, self.per_epoch = batch_size, per_epoch
        self.seed, self.flip = seed, flip
        self.epoch = 0

    def __len__(self) -> int:
        return max(1, self.per_epoch // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch (0, 1, …) and its draws."""
        self.epoch = int(epoch)

    def on_epoch_end(self) -> None:
        """Called by Keras: the next epoch begins."""
        self.set_epoch(self.epoch + 1)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        rng = np.random.default_rng((self.seed, self.epoch, int(index)))
        centres = self.sampler.draw(self.batch_size, rng)
        patches = np.empty((self.batch_size, self.size, self.size, 3), np.uint8)
        flips = rng.random(self.batch_size) < self.flip
        for position, (image, row, column, _) in enumerate(centres):
            pixels = self.sampler.read(int(image)).image
            # In a mirrored patch of even size the centre is the other one of the two in the middle.
            at = self.size - 1 - self.centre if flips[position] else self.centre
            rows = mirrored(np.arange(row - self.centre, row - self.centre + self.size), pixels.shape[0])
            columns = mirrored(np.arange(column - at, column - at + self.size), pixels.shape[1])
            patch = pixels[rows[:, None], columns]
            patches[position] = patch[:, ::-1] if flips[position] else patch
        labels = centres[:, 3].astype(np.int32).reshape(-1, 1, 1)
        return preprocess(patches, self.spec.normalization), labels


class _Relabelled(keras.utils.PyDataset):
    """The images of other batches under other labels; epochs are those of the batches."""

    def __init__(self, batches: Any) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.batches, self.spec = batches, batches.spec

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch (0, 1, …)."""
        self.batches.set_epoch(epoch)

    def on_epoch_end(self) -> None:
        """Called by Keras: the next epoch begins."""
        self.batches.on_epoch_end()


class SparseLabels(_Relabelled):
    """Batches of whole images in which only sampled pixels keep their label; the others become void.

    Args:
        batches: `kseg.data.Batches`.
        per_image: labelled pixels that are kept, times the images of a batch; all when there are fewer.
        balanced: every class that the batch shows gets the same share of the kept pixels (a class with fewer
            keeps all it has, and leaves the rest unused); otherwise they are drawn uniformly. See
            `balancing_weights` for the classes that it does not show.

    Raises:
        DataError: if fewer than two classes are labelled in the samples of the batches.
    """

    def __init__(self, batches: Any, per_image: int, balanced: bool) -> None:
        super().__init__(batches)
        check_classes(_first_classes(batches.samples, self.spec), self.spec, len(batches.samples))
        self.per_image, self.balanced = per_image, balanced

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        rng = np.random.default_rng((self.batches.seed, self.batches.epoch, int(index), 1))
        images, masks = self.batches[index]
        labels = masks.ravel()
        wanted = self.per_image * len(images)
        kept = np.full(labels.shape, self.spec.ignore_id, masks.dtype)
        if self.balanced:
            present = [label for label in np.unique(labels) if label != self.spec.ignore_id]
            groups = [np.flatnonzero(labels == label) for label in present]
        else:
            groups = [np.flatnonzero(labels != self.spec.ignore_id)]
        for group in groups:
            share = min(len(group), max(1, wanted // len(groups)))
            places = rng.choice(group, share, replace=False)
            kept[places] = labels[places]
        return images, kept.reshape(masks.shape)


def _first_classes(samples: Sequence[Any], spec: Spec) -> list[int]:
    """Return the classes that are labelled, in so many images as it takes to find two."""
    found: set[int] = set()
    for sample in samples:
        found.update(index for index in id_counts(sample.mask) if 0 <= index < spec.num_classes)
        if len(found) > 1:
            break
    return sorted(found)


class ForHeads(_Relabelled):
    """The same batches with one label map per output of a network with several heads.

    Args:
        batches: gives `(images, masks)`.
        heads: further outputs; those with `labels` get the masks translated, void stays void.

    Raises:
        UsageError: if a head's `labels` are not one per class.
    """

    def __init__(self, batches: Any, heads: Sequence[Head]) -> None:
        super().__init__(batches)
        self._tables: dict[str, NDArray[np.int32] | None] = {}
        for head in heads:
            self._tables[head.name] = self._table(head)

    def _table(self, head: Head) -> NDArray[np.int32] | None:
        if head.labels is None:
            return None
        if len(head.labels) != self.spec.num_classes:
            raise UsageError(
                f"The head '{head.name}' has {len(head.labels)} labels; it needs one for each of the "
                f"{self.spec.num_classes} classes of the data"
            )
        table = np.full(max(self.spec.num_classes, self.spec.ignore_id + 1), self.spec.ignore_id, np.int32)
        table[: self.spec.num_classes] = head.labels
        return table

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        images, masks = self.batches[index]
        labels = {MAIN: masks}
        for name, table in self._tables.items():
            labels[name] = masks if table is None else table[masks]
        return images, labels


class TruthInside(_Relabelled):
    """The same batches for a form with losses inside: the truth is an input, and nothing is left to compare.

    Args:
        batches: gives `(images, target)`; a target without names is called `"truth"`.
        losses: names of the losses.
    """

    def __init__(self, batches: Any, losses: Sequence[str]) -> None:
        super().__init__(batches)
        self._losses = losses

    def __getitem__(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        images, target = self.batches[index]
        truth = target if isinstance(target, dict) else {"truth": target}
        nothing = np.zeros(len(images), np.float32)
        return {IMAGE: images, **truth}, dict.fromkeys(self._losses, nothing)
