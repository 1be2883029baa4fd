"""Batches for `model.fit`: decoded, augmented and normalised in threads, the same for the same seed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import keras
import numpy as np

from kseg.data.cache.memory import CacheMode, DecodedCache
from kseg.data.sources.folders import PaletteLike, ids_message
from kseg.data.transforms.normalize import fill_color, preprocess
from kseg.data.sources.source import Sample, Source, base_split
from kseg.data.sources.source import open as open_source
from kseg.data.transforms.joint import Augment, Resize
from kseg.errors import DataError, UsageError
from kseg.spec import Normalization, Spec

if TYPE_CHECKING:
    import tensorflow as tf

_AHEAD = 2
_MAX_WORKERS = 8


def _single_threaded_opencv() -> None:
    # Samples run side by side; OpenCV's own threads inside each would only get in the way.
    cv2.setNumThreads(1)


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _MAX_WORKERS))


_pool: concurrent.futures.ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _shared_pool() -> concurrent.futures.ThreadPoolExecutor:
    """One pool for all Batches of the process: training and validation never run at once."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = concurrent.futures.ThreadPoolExecutor(
                _cores(), thread_name_prefix="kseg-data", initializer=_single_threaded_opencv
            )
        return _pool


class _Job:
    """A batch in the making."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, rows: list[concurrent.futures.Future[str]]):
        self._images, self._masks, self._rows = images, masks, rows

    def result(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        names = [row.result() for row in self._rows]
        return self._images, self._masks, names

    def cancel(self) -> None:
        for row in self._rows:
            row.cancel()


class Batches(keras.utils.PyDataset):
    """Batches of one split, for `model.fit`, `model.evaluate` or a plain loop.

    `batches[i]` gives `(images, masks)`: float32 (B, H, W, 3), normalised, and int32 (B, H, W) class
    ids with `spec.ignore_id` where there is no truth. The batch depends on `(seed, epoch, i)` only,
    never on threads. Each epoch of `fit` takes the next epoch number; `set_epoch` sets it, for example
    to resume. Batches shuffles by itself: pass `shuffle=False` to `fit`, which else reorders the
    batches by Python's global generator.

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
            `augment(image, mask, *, rng) -> (image, mask, ...)`.
        seed: non-negative integer.
        shuffle: a new order in each epoch.
        resize: how an image meets `size`, by the names of `Spec.resize`. `"none"`: augmentation crops from
            the full resolution; without it smaller images are padded bottom/right and of larger ones the
            centre is taken. `"stretch"` and `"fit"` resize first, then augment.
        normalization: see `kseg.Normalization`. Default: the spec's.
        cache: keep decoded images in memory: `"memory"` all, `"none"` none, `"auto"` while they fit into a
            quarter of the memory that is free at the start.

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

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Batch {index} of {len(self)}")
        index %= len(self)
        with self._lock:
            job = self._pending.pop(index, None) or self._start(self.epoch, index)
            for later in range(index + 1, min(index + 1 + _AHEAD, len(self))):
                if later not in self._pending and len(self._pending) < _AHEAD:
                    self._pending[later] = self._start(self.epoch, later)
        images, masks, names = job.result()
        if not self._checked:
            self._check(images, masks, names)
        return images, masks

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

    def _start(self, epoch: int, batch: int) -> _Job:
        with self._lock:
            indices = self._indices(epoch, batch)
        images = np.empty((len(indices), *self.crop, 3), np.float32)
        masks = np.empty((len(indices), *self.crop), np.int32)
        pool = _shared_pool()
        rows = [
            pool.submit(self._fill, epoch, int(index), images[row], masks[row])
            for row, index in enumerate(indices)
        ]
        return _Job(images, masks, rows)

    def _read(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        sample = self.samples[index]
        image, mask = sample.image, sample.mask
        if self._resize is not None:
            image, mask, _ = self._resize(image, mask)
        elif not self._fixed and image.shape[:2] != self.size:
            raise DataError(
                f"Image '{sample.name}' is {image.shape[0]}x{image.shape[1]}, the first was {self.size[0]}x"
                f"{self.size[1]} (height x width). Images of several sizes need size=(height, width)"
            )
        return sample.name, image, mask

    def _fill(self, epoch: int, index: int, image_out: np.ndarray, mask_out: np.ndarray) -> str:
        name, image, mask = self._cache.get(index, self._read)
        if self._augment is not None:
            rng = np.random.default_rng((self.seed, epoch, index))
            image, mask = self._augment(image, mask, rng=rng)[:2]
            if image.shape[:2] != self.crop or mask.shape != self.crop:
                raise UsageError(
                    f"Argument `augment` must give {self.crop[0]}x{self.crop[1]} (height x width). "
                    f"Received: image {image.shape}, mask {mask.shape}"
                )
        image_out[:] = preprocess(image, self.spec.normalization)
        mask_out[:] = mask
        return name

    def _check(self, images: np.ndarray, masks: np.ndarray, names: list[str]) -> None:
        """Stop before the first step when ids or pixels would spoil the training."""
        for name, image, mask in zip(names, images, masks, strict=True):
            found = np.unique(mask)
            wrong = [int(i) for i in found if not 0 <= i < self.spec.num_classes and i != self.spec.ignore_id]
            if wrong:
                raise DataError(ids_message(wrong, self.spec, f"first batch, image '{name}'"))
            if not np.isfinite(image).all():
                raise DataError(f"first batch, image '{name}': pixels are not finite after normalisation")
        self._checked = True

    def as_tf_data(self) -> tf.data.Dataset:
        """Return the same batches as a `tf.data.Dataset`; each pass over it is the next epoch."""
        import tensorflow as tf

        def positions() -> Any:
            epoch = self.epoch
            for batch in range(len(self)):
                yield epoch, batch
            self.set_epoch(epoch + 1)

        def fetch(epoch: Any, batch: Any) -> tuple[np.ndarray, np.ndarray]:
            images, masks, names = self._start(int(epoch), int(batch)).result()
            if not self._checked:
                self._check(images, masks, names)
            return images, masks

        def batch_of(epoch: Any, batch: Any) -> Any:
            images, masks = tf.numpy_function(fetch, (epoch, batch), (tf.float32, tf.int32))
            images.set_shape((None, *self.crop, 3))
            masks.set_shape((None, *self.crop))
            return images, masks

        signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))
        data = tf.data.Dataset.from_generator(positions, output_signature=signature)
        data = data.apply(tf.data.experimental.assert_cardinality(len(self)))
        return data.map(batch_of, num_parallel_calls=_AHEAD).prefetch(_AHEAD)


def load(
    source: str | os.PathLike[str] | Source,
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    batch_size: int = 8,
    augment: bool | Callable[..., Any] = False,
    seed: int = 0,
    limit: int | None = None,
    shuffle: bool | None = None,
    resize: str = "none",
    normalization: Normalization | None = None,
    cache: CacheMode = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    palette: PaletteLike | None = None,
    id_map: Mapping[int, int] | None = None,
) -> Batches:
    """Open a data set and return the batches of one split; see `Batches` for what each argument does.

    Args:
        source: a folder, `tfds:NAME`, `sample:nuclei` or an opened `Source`; see `kseg.data.open`.
        split: for example `"train"`, or a TFDS slice such as `"train[:50%]"`.
        limit: use at most that many images, evenly spaced over the split.
        shuffle: default: when `split` is a part of `train`.
        cache_dir, data_dir, palette, id_map: see `kseg.data.open`.

    Example:
        >>> train = kseg.data.load("sample:nuclei", size=(256, 256), augment=True)
        >>> images, masks = train[0]
        >>> images.shape, masks.shape
        ((8, 256, 256, 3), (8, 256, 256))
    """
    opened = open_source(source, cache_dir=cache_dir, data_dir=data_dir, palette=palette, id_map=id_map)
    samples = opened.samples(split, limit, instances=False)
    return Batches(
        samples,
        samples.spec,
        size=size,
        crop=crop,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        shuffle=base_split(split) == "train" if shuffle is None else shuffle,
        resize=resize,
        normalization=normalization,
        cache=cache,
    )


def _as_pixels(image: Any, index: int) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(
            "Argument `images` must hold uint8 RGB of shape (H, W, 3), 0-255; kseg normalises them itself. "
            f"Received: images[{index}] is {pixels.dtype} {pixels.shape}"
        )
    return pixels


def _as_ids(mask: Any, size: tuple[int, ...], index: int) -> np.ndarray:
    ids = np.asarray(mask)
    if ids.ndim == 3 and ids.shape[2] == 1:
        ids = ids[..., 0]
    if ids.dtype == np.bool_:
        ids = ids.astype(np.uint8)
    if ids.shape != size or not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(
            f"Argument `masks` must hold integers of each image's size. Received: masks[{index}] is "
            f"{ids.dtype} {ids.shape} for an image of {size}"
        )
    return ids


def from_arrays(
    images: np.ndarray | Sequence[np.ndarray],
    masks: np.ndarray | Sequence[np.ndarray],
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
) -> Batches:
    """Return batches of arrays in memory; needs no TensorFlow. See `Batches` for the other arguments.

    Args:
        images: uint8 RGB (N, H, W, 3), or N arrays (H, W, 3) of any sizes.
        masks: integer class ids (N, H, W), or N arrays (H, W); `spec.ignore_id` is void.
        spec: classes, palette, ignore id.

    Raises:
        UsageError: if shapes, types or counts do not fit.
    """
    if len(images) != len(masks):
        raise UsageError(
            f"Arguments `images` and `masks` must be equally many. Received: {len(images)} and {len(masks)}"
        )
    samples = []
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        pixels = _as_pixels(image, index)
        samples.append(Sample(f"array {index}", pixels, _as_ids(mask, pixels.shape[:2], index)))
    return Batches(
        samples,
        spec,
        size=size,
        crop=crop,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        shuffle=shuffle,
        resize=resize,
        normalization=normalization,
        cache="none",
    )
