"""Data folders as TFDS builders: made once, cached, random-access, re-made when the source changes.

The cache is `$KSEG_CACHE` or `~/.cache/kseg`. Below it each source has one folder, and in that one
folder per state of the source. A state is written under a temporary name and renamed when whole, so a
killed process leaves nothing that a later one takes for a data set; a lock lets one of two processes
build while the other waits. A state is sealed by checksums; a damaged one is made again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import io
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging
from tensorflow_datasets.core.read_only_builder import ReadOnlyBuilder
from tensorflow_datasets.core.utils import tqdm_utils

from kseg import files
from kseg.data.cache import sealed
from kseg.data.cache.place import cache_dir
from kseg.data.ids import check_ids
from kseg.data.pictures.images import frame_of
from kseg.data.pictures.orientation import UPRIGHT
from kseg.data.sample import Sample
from kseg.errors import DataError
from kseg.spec import Spec
from kseg.text import printable

_LOG = logging.getLogger("kseg")
_NAME = "kseg_folder"
_VERSION = "1.0.0"
_SLOW_SECONDS = 2.0
_WORKERS = 2
_WINDOW = 32


class Records(Protocol):
    """What a builder is filled from."""

    with_instances: bool

    @property
    def spec(self) -> Spec:
        """Classes and ignore id."""

    def stored(self, split: str, index: int) -> tuple[Sample, Path | None]:
        """Return a sample, and the image file whose bytes may be stored as they are."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence TFDS' logs and bars, unless the `kseg` logger is at DEBUG."""
    if _LOG.isEnabledFor(logging.DEBUG):
        yield
        return
    verbosity, bars = absl_logging.get_verbosity(), tqdm_utils._active
    absl_logging.set_verbosity(absl_logging.ERROR)
    # Its retries are warnings, one a file and try; the last failure is an error of ours.
    web = logging.getLogger("urllib3")
    web_level = web.level
    web.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        web.setLevel(web_level)
        absl_logging.set_verbosity(verbosity)
        tqdm_utils.display_progress_bar(bars)


def _mask_dtype(spec: Spec) -> type:
    return np.uint8 if spec.ignore_id <= 255 else np.uint16


def _features(spec: Spec, with_instances: bool) -> tfds.features.FeaturesDict:
    features: dict[str, Any] = {
        "name": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3)),
        "mask": tfds.features.LabeledImage(
            labels=list(spec.classes),
            shape=(None, None, 1),
            dtype=_mask_dtype(spec),
            encoding_format="png",
        ),
    }
    if with_instances:
        layer = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png")
        features["instances"] = tfds.features.FeaturesDict(
            {
                "layers": tfds.features.Sequence(layer),
                "classes": tfds.features.Sequence(np.int32),
                "crowd": tfds.features.Sequence(np.bool_),
            }
        )
    return tfds.features.FeaturesDict(features)


def _png(pixels: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise DataError(f"Cannot encode a {pixels.dtype} {pixels.shape} array as PNG")
    return encoded.tobytes()


def _image_bytes(image: np.ndarray, file: Path | None) -> bytes:
    """Return the file as it is where every decoder sees the same RGB in it, else a PNG of the pixels.

    EXIF turns, CMYK, 16 bits, palettes, alpha and single-channel files come out differently in OpenCV,
    TensorFlow and Pillow; plain JPEG and PNG differ by rounding only.
    """
    if file is not None and file.suffix.lower() in (".jpg", ".jpeg", ".png"):
        data = file.read_bytes()
        if frame_of(data, printable(file)).orientation != UPRIGHT:
            return _png(image[..., ::-1])
        plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if plain is None or plain.shape != image.shape or plain.dtype != np.uint8:
            return _png(image[..., ::-1])
        if cv2.norm(plain[..., ::-1], image, cv2.NORM_L1) <= image.size:
            return data
    return _png(image[..., ::-1])


def _encode(records: Records, split: str, index: int) -> dict[str, Any]:
    sample, file = records.stored(split, index)
    where = printable(file or sample.name)
    if sample.mask.shape != sample.image.shape[:2]:
        raise DataError(
            f"{where}: the image is {sample.image.shape[0]}x{sample.image.shape[1]}, its "
            f"mask {sample.mask.shape[0]}x{sample.mask.shape[1]} (height x width). They must be equal"
        )
    check_ids(sample.mask, records.spec, where)
    example: dict[str, Any] = {
        "name": sample.name,
        "image": _image_bytes(sample.image, file),
        "mask": _png(sample.mask.astype(_mask_dtype(records.spec))),
    }
    if records.with_instances:
        found = sample.instances
        if found is None:
            raise DataError(f"{where} has no instances")
        example["instances"] = {
            "layers": [_png(layer.astype(np.uint16)) for layer in found.layers],
            "classes": found.classes,
            "crowd": found.crowd,
        }
    return example


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The TFDS builder of a data folder: `name`, `image`, `mask` and, where there are any, `instances`."""

    VERSION = tfds.core.Version(_VERSION)
    name = _NAME

    def __init__(
        self, records: Records, splits: Mapping[str, int], progress: Callable[[], None], **kwargs: Any
    ):
        self._records, self._splits, self._progress = records, splits, progress
        self.failure: BaseException | None = None
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images and class maps, made by kseg from a data folder.",
            features=_features(self._records.spec, self._records.with_instances),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing is ever downloaded
        return {split: self._generate_examples(split, count) for split, count in self._splits.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
                for start in range(0, count, _WINDOW):
                    indices = range(start, min(start + _WINDOW, count))
                    made = pool.map(lambda index: _encode(self._records, split, index), indices)
                    for index, example in zip(indices, made, strict=True):
                        self._progress()
                        yield index, example
        except BaseException as error:
            # TFDS rewraps what its generators raise; the caller wants this one.
            self.failure = error
            raise


class CachedBuilder(ReadOnlyBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A finished `FolderBuilder`, with `as_dataset`: TFDS reads array_record by `as_data_source` only.

    Attributes:
        remake: makes the cache again if it is damaged; see `kseg.data.cache.examples`.
    """

    remake: Callable[[], None]

    def _as_dataset(
        self, split: Any, decoders: Any = None, read_config: Any = None, shuffle_files: bool = False
    ) -> Any:
        import tensorflow as tf

        raw = self.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        features = self.info.features
        if isinstance(decoders, tfds.decode.PartialDecoding):
            features, decoders = decoders.extract_features(features), decoders.decoders

        def read(index: Any) -> Any:
            record = tf.numpy_function(lambda place: raw[int(place)], (index,), tf.string)
            return features.deserialize_example(tf.ensure_shape(record, ()), decoders=decoders)

        data = tf.data.Dataset.range(len(raw))
        if shuffle_files:
            data = data.shuffle(len(raw), seed=getattr(read_config, "shuffle_seed", None))
        return data.map(read, num_parallel_calls=tf.data.AUTOTUNE)


class _Progress:
    """One line on stderr once the work has taken a while; counts on a terminal."""

    def __init__(self, total: int, text: str) -> None:
        self._total, self._text, self._done = total, text, 0
        self._start, self._shown = time.monotonic(), 0.0

    def __call__(self) -> None:
        self._done += 1
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self._start < _SLOW_SECONDS or (self._shown and (not terminal or now - self._shown < 0.2)):
            return
        self._shown = now
        line = f"kseg: {self._text}: {self._done}/{self._total} images"
        print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._shown:
            seconds = time.monotonic() - self._start
            line = f"kseg: {self._text}: {self._done}/{self._total} images, {seconds:.0f} s"
            print(f"\r{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; the system frees it when the process dies, however it dies."""
    try:
        import fcntl
    except ImportError:  # no such lock on this system: two processes then both build, and one rename wins
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(records: Records, splits: Mapping[str, int], folder: Path, text: str) -> None:
    progress = _Progress(sum(splits.values()), text)
    with files.atomic(folder) as temporary:
        builder = FolderBuilder(records, splits, progress, data_dir=temporary, file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False, compute_stats="skip")
        try:
            with quiet(), contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config)
        except Exception as error:
            if builder.failure is not None:
                raise builder.failure from None
            raise DataError(f"Cannot make the data set cache in {folder}: {error}") from error
        # TFDS makes a folder for downloads although there are none.
        shutil.rmtree(temporary / "downloads", ignore_errors=True)
        sealed.seal(temporary)
    progress.close()


def _remove_others(slot: Path, keep: str) -> None:
    for entry in slot.iterdir():
        if entry.is_dir() and entry.name != keep and not entry.name.startswith("."):
            shutil.rmtree(entry, ignore_errors=True)


def prepare(
    records: Records,
    splits: Mapping[str, int],
    *,
    source: str,
    variant: str,
    state: str,
    cache: str | os.PathLike[str] | None = None,
) -> tfds.core.DatasetBuilder:
    """Return the (read-only) TFDS builder of `records`, building it when the cache lacks it.

    Args:
        records: where samples come from.
        splits: split -> number of images.
        source: location of the source, for names and messages.
        variant: what else tells this cache entry from another of the same source (options).
        state: digest of the source's present state; an entry of another state is stale and removed.
        cache: cache folder; see `cache_dir`.

    Raises:
        DataError: when a sample cannot be read, or an id is out of range.
        OSError: when the cache cannot be written (disk full, no permission).
    """
    label = re.sub(r"[^A-Za-z0-9]+", "_", Path(source).name).strip("_")[:40] or "data"
    slot = (
        cache_dir(cache)
        / "datasets"
        / f"{label}-{hashlib.sha256(f'{source}|{variant}'.encode()).hexdigest()[:12]}"
    )
    folder = slot / state

    def make(thorough: bool = False) -> None:
        """Build what the cache lacks or what is damaged in it; one process at a time."""
        if not sealed.damage(folder, thorough):
            return
        with _locked(slot.with_name(slot.name + ".lock")):
            wrong = sealed.damage(folder, thorough)
            if not wrong:
                return
            if folder.exists():
                line = (
                    f"kseg: the data set cache of {printable(source)} is damaged ({wrong}); making it again"
                )
                print(line, file=sys.stderr, flush=True)
            _build(records, splits, folder, f"preparing {printable(source)} (once, kept in {slot.parent})")
            _remove_others(slot, state)

    make()
    try:
        with quiet():
            builder = CachedBuilder(builder_dir=folder / _NAME / _VERSION)
    except Exception:
        # It was whole a moment ago: somebody deleted or replaced it since.
        make(thorough=True)
        with quiet():
            builder = CachedBuilder(builder_dir=folder / _NAME / _VERSION)
    builder.remake = functools.partial(make, thorough=True)
    return builder
