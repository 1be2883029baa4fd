"""The batches of a split of a source, and those of arrays in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kseg.data.batches.batches import Batches
from kseg.data.batches.targets import Encode, needs_instances, semantic_target
from kseg.data.cache.memory import CacheMode
from kseg.data.pictures.palette import PaletteLike
from kseg.data.sample import Sample
from kseg.data.sources.formats import open as open_source
from kseg.data.sources.source import Source, base_split
from kseg.errors import UsageError
from kseg.spec import Normalization, Spec


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
    encode: Encode = semantic_target,
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
    samples = opened.samples(split, limit, instances=needs_instances(encode))
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
        encode=encode,
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
    encode: Encode = semantic_target,
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
        encode=encode,
    )
