"""Batches for `model.fit`: decoded, augmented and normalised in threads, the same for the same seed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np

from kseg.data.batches.feeding import AHEAD, untuned
from kseg.data.batches.targets import Encode, Stack, needs_instances, parts, semantic_target
from kseg.data.cache.memory import CacheMode, DecodedCache
from kseg.data.ids import check_ids
from kseg.data.sample import Sample
from kseg.data.threads import workers
from kseg.data.transforms.augment import Augment
from kseg.data.transforms.joint import transformed
from kseg.data.transforms.normalize import fill_color, preprocess
from kseg.data.transforms.resize import Resize
from kseg.errors import DataError, UsageError
from kseg.spec import Normalization, Spec

if TYPE_CHECKING:
    import tensorflow as tf


def _single_threaded_opencv() -> None:
    # Samples run side by side; OpenCV's own threads inside each would only get in the way.
    cv2.setNumThreads(1)


_pool: concurrent.futures.ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _shared_pool() -> concurrent.futures.ThreadPoolExecutor:
    """One pool for all Batches of the process: training and validation never run at once."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = concurrent.futures.ThreadPoolExecutor(
                workers(), thread_name_prefix="kseg-data", initializer=_single_threaded_opencv
            )
        return _pool


class _Job:
    """A batch in the making."""

    def __init__(self, images: np.ndarray, targets: Stack, rows: list[concurrent.futures.Future[None]]):
        self._images, self._targets, self._rows = images, targets, rows

    def result(self) -> tuple[np.ndarray, Any]:
        for row in self._rows:
            row.result()
        return self._images, self._targets.result()

    def cancel(self) -> None:
        for row in self._rows:
            row.cancel()


class Batches(keras.utils.PyDataset):
    """Batches of one split, for `model.fit`, `model.evaluate` or a plain loop.

    `batches[i]` gives `(images, targets)`: float32 (B, H, W, 3), normalised, and what `encode` makes of the
    samples, by default int32 (B, H, W) class ids with `spec.ignore_id` where there is no truth. Image, mask
    and instances of a sample go through the same resizing and augmentation. The batch depends on
    `(seed, epoch, i)` only, never on threads. Each epoch of `fit` takes the next epoch number; `set_epoch`
    sets it, for example to resume. Batches shuffles by itself: pass `shuffle=False` to `fit`, which else
    reorders the batches by Python's global generator.

    Args:
        samples: sequence of `Sample`.
        spec: the data set's spec.
        size: (height, width) of the network, and of a batch where `crop` is not given; None: that of the
            first image, and all must have it.
        crop: (height, width) of a batch: what augmentation cuts out of an image after `resize`, so that a
            network trains on parts at the scale at which it predicts wholes. None: `size`.
        batch_size: images per batch. When shuffling, a smaller rest is left out of the epoch if there is a
            full batch; else it is the last batch.
        augment: False; True for `Augment`'s defaults; or an `Augment`, or a callable like it,
            `augment(image, mask, *, rng) -> (image, mask, ...)`; where `encode` needs instances,
            `augment(image, mask, layers, *, rng) -> (image, mask, layers)`, layers as in `Instances`.
        seed: non-negative integer.
        shuffle: a new order in each epoch.
        resize: how an image meets `size`, by the names of `Spec.resize`. `"none"`: augmentation crops from
            the full resolution; without it smaller images are padded bottom/right and of larger ones the
            centre is taken. `"stretch"` and `"fit"` resize first, then augment.
        normalization: see `kseg.Normalization`. Default: the spec's.
        cache: keep decoded images in memory: `"memory"` all, `"none"` none, `"auto"` while they fit into a
            quarter of the memory that is free at the start.
        encode: what makes the target of a sample, called last: `encode(sample) -> array`, or arrays by name,
            of the same shapes and types for every sample; they are stacked. It is called by several threads
            and must not change the sample. Where its attribute `needs_instances` is False, samples have none.
            Default: the mask as int32.

    Attributes:
        spec: the data set's spec with `input_size`, `resize` and `normalization` filled in.
        epoch: the epoch that the next batch belongs to.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: Spec,
        *,
        size: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        batch_size: int = 8,
        augment: bool | Callable[..., Any] = False,
        seed: int = 0,
        shuffle: bool = False,
        resize: str = "none",
        normalization: Normalization | None = None,
        cache: CacheMode = "auto",
        encode: Encode = semantic_target,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        if len(samples) == 0:
            raise DataError("There is no image to make batches of")
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                raise UsageError(
                    f"Argument `{name}` must be an integer of at least {least}. Received: {value!r}"
                )
        self.samples, self.shuffle = samples, bool(shuffle)
        self.batch_size, self.seed = int(batch_size), int(seed)
        self._fixed = size is not None
        self.size = (int(size[0]), int(size[1])) if size is not None else samples[0].image.shape[:2]
        if crop is not None and augment is False:
            raise UsageError(
                f"Argument `crop` needs `augment`, which cuts the crops. Received: crop={crop!r}"
            )
        self.crop = (int(crop[0]), int(crop[1])) if crop is not None else self.size
        normalization = normalization or spec.normalization
        self.spec = spec.replace(input_size=self.size, resize=resize, normalization=normalization)
        fill = fill_color(normalization)
        self._augment = self._make_augment(augment, fill)
        self._resize: Resize | None = None
        if self._fixed and (self._augment is None or resize != "none"):
            self._resize = Resize(self.size, resize, ignore_id=spec.ignore_id, fill=fill)
        if not callable(encode):
            raise UsageError(f"Argument `encode` must make a target of a sample. Received: {encode!r}")
        self._encode, self._instances = encode, needs_instances(encode)
        self._cache = DecodedCache(cache)
        self.epoch = 0
        self._order = (-1, np.arange(0))
        self._pending: dict[int, _Job] = {}
        self._lock = threading.RLock()
        self._checked = False

    def _make_augment(
        self, augment: bool | Callable[..., Any], fill: tuple[int, int, int]
    ) -> Callable[..., Any] | None:
        if augment is False:
            return None
        if augment is True:
            return Augment(crop=self.crop, ignore_id=self.spec.ignore_id, fill=fill)
        if isinstance(augment, Augment):
            return dataclasses.replace(augment, crop=self.crop, ignore_id=self.spec.ignore_id)
        if not callable(augment):
            raise UsageError(f"Argument `augment` must be False, True or an Augment. Received: {augment!r}")
        return augment

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return len(self)

    def __len__(self) -> int:
        full, rest = divmod(len(self.samples), self.batch_size)
        return full if not rest or (self.shuffle and full) else full + 1

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch (0, 1, …): its order and its random draws."""
        if epoch < 0:
            raise UsageError(f"Argument `epoch` must not be negative. Received: epoch={epoch}")
        with self._lock:
            for job in self._pending.values():
                job.cancel()
            self._pending.clear()
            self.epoch = int(epoch)

    def on_epoch_end(self) -> None:
        """Called by Keras: the next epoch begins."""
        self.set_epoch(self.epoch + 1)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Batch {index} of {len(self)}")
        index %= len(self)
        with self._lock:
            job = self._pending.pop(index, None) or self._start(self.epoch, index, not self._checked)
            for later in range(index + 1, min(index + 1 + AHEAD, len(self))):
                if later not in self._pending and len(self._pending) < AHEAD:
                    self._pending[later] = self._start(self.epoch, later)
        result = job.result()
        self._checked = True
        return result

    def _indices(self, epoch: int, batch: int) -> np.ndarray:
        if self._order[0] != epoch:
            count = len(self.samples)
            order = (
                np.random.default_rng((self.seed, epoch)).permutation(count)
                if self.shuffle
                else np.arange(count)
            )
            self._order = (epoch, order)
        return self._order[1][batch * self.batch_size : (batch + 1) * self.batch_size]

    def _start(self, epoch: int, batch: int, check: bool = False) -> _Job:
        with self._lock:
            indices = self._indices(epoch, batch)
        images = np.empty((len(indices), *self.crop, 3), np.float32)
        targets = Stack(len(indices))
        pool = _shared_pool()
        rows = [
            pool.submit(self._fill, epoch, int(index), images[row], targets, row, check)
            for row, index in enumerate(indices)
        ]
        return _Job(images, targets, rows)

    def _read(self, index: int) -> Sample:
        sample = self.samples[index]
        if sample.instances is not None and not self._instances:
            sample = dataclasses.replace(sample, instances=None)
        if self._resize is not None:
            return transformed(sample, self._resize)
        size = sample.image.shape[:2]
        if not self._fixed and size != self.size:
            raise DataError(
                f"Image '{sample.name}' is {size[0]}x{size[1]}, the first was {self.size[0]}x"
                f"{self.size[1]} (height x width). Images of several sizes need size=(height, width)"
            )
        return sample

    def _sample(self, epoch: int, index: int) -> Sample:
        """Return a sample as it is encoded: resized and augmented."""
        sample = self._cache.get(index, self._read)
        if self._augment is None:
            return sample
        sample = transformed(sample, self._augment, rng=np.random.default_rng((self.seed, epoch, index)))
        if sample.image.shape[:2] != self.crop or sample.mask.shape != self.crop:
            raise UsageError(
                f"Argument `augment` must give {self.crop[0]}x{self.crop[1]} (height x width). "
                f"Received: image {sample.image.shape}, mask {sample.mask.shape}"
            )
        return sample

    def _fill(
        self, epoch: int, index: int, image_out: np.ndarray, targets: Stack, row: int, check: bool
    ) -> None:
        sample = self._sample(epoch, index)
        image_out[:] = preprocess(sample.image, self.spec.normalization)
        if check:
            # Stop before the first step when ids or pixels would spoil the training.
            where = f"first batch, image '{sample.name}'"
            check_ids(sample.mask, self.spec, where)
            if not np.isfinite(image_out).all():
                raise DataError(f"{where}: pixels are not finite after normalisation")
        targets.put(row, self._encode(sample), sample.name)

    def as_tf_data(self) -> tf.data.Dataset:
        """Return the same batches as a `tf.data.Dataset`; each pass over it is the next epoch."""
        import tensorflow as tf

        def positions() -> Any:
            epoch = self.epoch
            for batch in range(len(self)):
                yield epoch, batch
            self.set_epoch(epoch + 1)

        like = self._encode(self._sample(self.epoch, 0))
        arrays = parts(like)

        def fetch(epoch: Any, batch: Any) -> tuple[np.ndarray, ...]:
            images, targets = self._start(int(epoch), int(batch), not self._checked).result()
            self._checked = True
            found = parts(targets)
            return images, *(found[name] for name in arrays)

        def batch_of(epoch: Any, batch: Any) -> Any:
            types = (tf.float32, *(tf.as_dtype(value.dtype) for value in arrays.values()))
            images, *rest = tf.numpy_function(fetch, (epoch, batch), types)
            images.set_shape((None, *self.crop, 3))
            for found, value in zip(rest, arrays.values(), strict=True):
                found.set_shape((None, *value.shape))
            return images, dict(zip(arrays, rest, strict=True)) if isinstance(like, dict) else rest[0]

        signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))
        data = tf.data.Dataset.from_generator(positions, output_signature=signature)
        data = data.apply(tf.data.experimental.assert_cardinality(len(self)))
        return untuned(data.map(batch_of, num_parallel_calls=AHEAD).prefetch(AHEAD))
