"""Random access to the examples of a builder, whatever happens to the cache meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from kseg.data.cache.builders import quiet
from kseg.data.instances import Instances
from kseg.data.pictures.images import frame_of
from kseg.data.sample import Outline, Sample, Samples
from kseg.errors import DataError, UsageError
from kseg.spec import Spec
from kseg.text import printable


class _Encoded(tfds.decode.SkipDecoding):
    """Leaves the pictures of a sequence as they are: TFDS itself does so of single ones only."""

    def decode_batch_example_np(self, example: Any) -> Any:
        return example


class Records(Sequence[dict[str, Any]]):
    """Random access to examples, image, mask and layers of instances still encoded.

    A record that cannot be read, because the cache was deleted or damaged after it was opened, has the cache
    made again, once, and is read anew.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, instances: bool) -> None:
        skip = tfds.decode.SkipDecoding()
        self._builder, self._split = builder, split
        decoders = {"image": skip, "mask": skip, "instances": {"layers": _Encoded()}}
        features = builder.info.features
        wanted = [key for key in features if instances or key != "instances"]
        self._decoders = {key: decoders[key] for key in wanted if key in decoders}
        self._features = tfds.features.FeaturesDict({key: features[key] for key in wanted})
        self._lock = threading.Lock()
        try:
            self._raw = self._open()
        except Exception:
            # A wrong split fails again; a cache that was deleted a moment ago does not.
            getattr(builder, "remake", lambda: None)()
            self._raw = self._open()
        self._length = len(self._raw)

    def _open(self) -> Sequence[bytes]:
        with quiet():
            raw_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
            return self._builder.as_data_source(split=self._split, deserialize_method=raw_bytes)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if not -self._length <= index < self._length:
            raise IndexError(f"Record {index} of {self._length}")
        raw = self._raw
        try:
            return self._read(raw, index)
        except Exception:
            remake = getattr(self._builder, "remake", None)
            if remake is None:
                raise
            with self._lock:
                # Several threads read; the first one to come makes it.
                if self._raw is raw:
                    remake()
                    self._raw = self._open()
            return self._read(self._raw, index)

    def _read(self, raw: Sequence[bytes], index: int) -> Any:
        example = self._features.deserialize_example_np(raw[index], decoders=self._decoders)
        # array_record gives nothing, and no error, for what lies behind the end of a file that was cut.
        if example["image"] is None or example["mask"] is None:
            raise DataError(f"Record {index} of split '{self._split}' is missing from the data set cache")
        return example


def open_samples(
    builder: tfds.core.DatasetBuilder, split: str, spec: Spec, limit: int | None, instances: bool, source: str
) -> Samples:
    """Return the samples of a split out of a builder that `kseg.data.cache.builders` made.

    Args:
        builder: of the source.
        split: slices such as `train[:50%]` work.
        spec: of the source.
        limit: keep at most that many, evenly spaced.
        instances: whether they are decoded.
        source: what messages call it.

    Raises:
        UsageError: the split cannot be read.
        DataError: it selects no image.
    """
    try:
        records = Records(builder, split, instances)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise UsageError(
            f"Split '{printable(split)}' cannot be read: {printable(error, 300)}. Write for example train, "
            "train[:50%] or train[10:20]"
        ) from error
    if not len(records):
        raise DataError(f"Split '{printable(split)}' of {printable(source)} selects no image")
    return Samples(records, lambda example, index: _decode(example), spec, limit, _decode_mask, _outline)


def _damaged() -> DataError:
    return DataError("The data set cache holds a damaged image. Delete the cache folder and run again")


def _pixels(data: bytes, how: int) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if pixels is None:
        raise _damaged()
    return np.asarray(pixels)


def _decode_mask(example: Mapping[str, Any]) -> np.ndarray:
    mask = _pixels(example["mask"], cv2.IMREAD_UNCHANGED)
    return mask if mask.dtype == np.uint8 else mask.astype(np.int32)


def _name(example: Mapping[str, Any]) -> str:
    name = example["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _outline(example: Mapping[str, Any]) -> Outline:
    stored, name = example.get("instances"), _name(example)
    try:
        # Images lie in the cache as they are shown.
        size = frame_of(example["image"], name).stored
    except DataError as error:
        raise _damaged() from error
    return Outline(name, size, None if stored is None else np.asarray(stored["crowd"], bool).reshape(-1))


def _decode(example: Mapping[str, Any]) -> Sample:
    found = None
    if "instances" in example:
        stored = example["instances"]
        layers = [_pixels(layer, cv2.IMREAD_UNCHANGED) for layer in stored["layers"]]
        found = Instances(
            np.stack(layers).astype(np.int32),
            np.asarray(stored["classes"], np.int32).reshape(-1),
            np.asarray(stored["crowd"], bool).reshape(-1),
        )
    return Sample(
        _name(example), _pixels(example["image"], cv2.IMREAD_COLOR_RGB), _decode_mask(example), found
    )
