"""Real images for calibration, verification and benchmarks, and how they become network input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.ends import output_shapes
from kseg import tasks
from kseg.data.sample import evenly
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.tasks import OneOutput

JUDGED_SPLITS = ("val", "test", "train")


@dataclass(frozen=True)
class Images:
    """Some samples of one split.

    Args:
        samples: what `kseg.data` calls Samples: `len`, and `[i]` with `.name`, `.image`, `.mask`.
        indices: which of them, in order.
        source: where they come from, for the record: a folder's name, never its local path.
        split: name of the split; empty for samples given by hand.
    """

    samples: Any
    indices: tuple[int, ...]
    source: str
    split: str

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Any]:
        return (self.samples[index] for index in self.indices)


def _is_source(data: Any) -> bool:
    return hasattr(data, "samples") and hasattr(data, "splits")


def _open(data: Any) -> Any:
    if isinstance(data, str | os.PathLike):
        from kseg.data import open as open_source

        return open_source(os.fspath(data))
    return data


def _samples(data: Any, splits: Sequence[str]) -> tuple[Any, str, str]:
    """Return the samples of the first split of `splits` that there is, the source's name, the split's."""
    opened = _open(data)
    if _is_source(opened):
        split = next((name for name in splits if opened.splits.get(name)), None)
        if split is None and len(splits) == 1 and hasattr(opened, "check_split"):
            opened.check_split(splits[0])  # names the near one; slices such as val[:50%] pass
            split = splits[0]
        if split is None:
            raise DataError(
                f"'{getattr(opened, 'name', data)}' has no images in split {' or '.join(splits)}. "
                f"It has: {dict(opened.splits)}"
            )
        return opened.samples(split), str(opened.spec.data.get("source", "source")), split
    if hasattr(opened, "__getitem__") and hasattr(opened, "__len__"):
        if len(opened) == 0:
            raise DataError("The list of samples is empty; give images.")
        return opened, "samples given by hand", ""
    raise UsageError(
        "Data must be a folder, 'tfds:NAME', a kseg.data source, or a sequence of samples. "
        f"Received: {type(data).__name__}"
    )


def spread(data: Any, *, split: str | None = None, limit: int | None = None) -> Images:
    """Choose images evenly over a split (all of it by default), those that `kseg evaluate --limit` takes.

    Neighbours in a film are alike.

    Args:
        data: folder, `tfds:NAME`, source, or a sequence of samples.
        split: name; default: `val`, else `test`, else `train`.
        limit: how many at most.
    """
    samples, source, found = _samples(data, (split,) if split else JUDGED_SPLITS)
    return Images(samples, tuple(evenly(range(len(samples)), limit)), source, found)


def draw(data: Any, *, split: str = "train", count: int, seed: int) -> Images:
    """Draw `count` images (or all there are) of `split` at random; the same seed draws the same."""
    samples, source, found = _samples(data, (split,))
    order = np.random.default_rng(seed).permutation(len(samples))[:count]
    return Images(samples, tuple(int(index) for index in order), source, found)


class _Recorder(OneOutput):
    """A runtime that keeps what it is asked to run. Its outputs are zero."""

    name = "recorder"

    def __init__(self, spec: Spec, size: tuple[int, int]) -> None:
        self.spec = spec
        self.input_size = size
        self.received: list[np.ndarray] = []
        self._outputs = output_shapes(spec, size)

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.received.extend(np.asarray(image, np.float32) for image in images)
        return {name: np.zeros((len(images), *shape), np.float32) for name, shape in self._outputs.items()}

    def close(self) -> None:
        self.received = []


def network_inputs(images: Images, spec: Spec, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield what prediction feeds to the network: float32 `(H, W, 3)`, normalised, tiles included.

    The task's predictor itself makes them, so that calibration sees the very pixels that prediction sees.
    """
    for inputs in _by_image(images, spec, size):
        yield from inputs


def drawn_inputs(
    images: Images, spec: Spec, size: tuple[int, int], count: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield of each image `count` of its `network_inputs`, drawn at random; without the zeros that fill up a
    batch.
    """
    random = np.random.default_rng(seed)
    for inputs in _by_image(images, spec, size):
        real = [values for values in inputs if values.any()]
        yield from (real[index] for index in random.permutation(len(real))[:count])


def _by_image(images: Images, spec: Spec, size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
    recorder = _Recorder(spec, size)
    predictor = tasks.find(spec.task).part("predictor")(recorder)
    for sample in images:
        for _ in predictor.stream([sample.image]):
            yield recorder.received
            recorder.received = []
