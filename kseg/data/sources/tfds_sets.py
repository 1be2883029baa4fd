"""TFDS sets with masks: a table of the known ones, and a rule for the others.

A set that is prepared as array_record is read in place. One that is prepared as TFRecord (TFDS' default)
has no random access and is copied once into the cache, as a folder is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from kseg import records
from kseg.data.cache import builders, examples
from kseg.data.label_spaces import label_space
from kseg.data.sample import Sample, Samples
from kseg.data.sources.reach import unreachable
from kseg.data.sources.source import NO_OPTIONS, Options, Source
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.spec import Spec

_PETS = ("pet", "background", "border")
_CITYSCAPES = label_space("cityscapes19")
# TFDS' scene_parse150 carries the instance annotations of the Places Challenge 2017: 100 categories.
# fmt: off
_PLACES = (
    "bed", "windowpane", "cabinet", "person", "door", "table", "curtain", "chair", "car", "painting",
    "sofa", "shelf", "mirror", "armchair", "seat", "fence", "desk", "wardrobe", "lamp", "bathtub",
    "railing", "cushion", "box", "column", "signboard", "chest of drawers", "counter", "sink",
    "fireplace", "refrigerator", "stairs", "case", "pool table", "pillow", "screen door", "bookcase",
    "coffee table", "toilet", "flower", "book", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "arcade machine", "bus", "towel", "light",
    "truck", "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane",
    "apparel", "pole", "bannister", "ottoman", "bottle", "van", "ship", "fountain", "washer",
    "plaything", "stool", "barrel", "basket", "bag", "minibike", "oven", "ball", "food", "step",
    "trade name", "microwave", "pot", "animal", "bicycle", "dishwasher", "screen", "sculpture", "hood",
    "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "plate", "monitor", "bulletin board",
    "radiator", "glass", "clock", "flag",
)
# fmt: on
_NAME_KEYS = ("file_name", "filename", "image_id", "image/filename", "id", "name")


@dataclass(frozen=True)
class MaskSet:
    """How a TFDS set holds its masks.

    Args:
        image, mask: feature names.
        classes: names by class index.
        id_map: id in the mask -> class index.
        others: what ids outside `id_map` become: True the ignore id (void), False themselves.
        palette: one RGB colour per class, or empty.
        channel: channel of the mask that holds the class.
    """

    image: str
    mask: str
    classes: tuple[str, ...]
    id_map: Mapping[int, int]
    others: bool = True
    palette: tuple[tuple[int, int, int], ...] = ()
    channel: int = 0


SETS = {
    "oxford_iiit_pet": MaskSet("image", "segmentation_mask", _PETS, {1: 0, 2: 1, 3: 2}),
    "cityscapes": MaskSet(
        "image_left",
        "segmentation_label",
        _CITYSCAPES.classes,
        _CITYSCAPES.file_ids or {},
        palette=_CITYSCAPES.colors,
    ),
    "scene_parse150": MaskSet(
        "image", "annotation", _PLACES, {index + 1: index for index in range(len(_PLACES))}
    ),
}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:240] + " …"


def _find_set(name: str, features: Any, id_map: Mapping[int, int] | None) -> MaskSet:
    """Find the image and the mask of a set that the table does not list."""
    pictures = {key: value for key, value in features.items() if isinstance(value, tfds.features.Image)}
    labeled = [key for key, value in pictures.items() if isinstance(value, tfds.features.LabeledImage)]
    flat = [key for key, value in pictures.items() if value.shape[-1] == 1 and value.dtype != np.float32]
    masks = labeled or flat
    images = [key for key, value in pictures.items() if key not in masks and value.shape[-1] in (3, None)]
    if not images or not masks:
        raise DataError(
            f"tfds:{name} has no image with a mask. Its features: {', '.join(sorted(features))}. "
            f"Known sets with masks: {', '.join(SETS)}"
        )
    image = "image" if "image" in images else images[0]
    feature = pictures[masks[0]]
    if id_map is not None:
        count = max(index for index in id_map.values() if index < 255) + 1
        return MaskSet(image, masks[0], tuple(f"class {index}" for index in range(count)), {}, others=False)
    known = feature.num_classes if isinstance(feature, tfds.features.LabeledImage) else None
    if not known:
        raise DataError(
            f"tfds:{name} does not say which classes its mask '{masks[0]}' holds. "
            "Give id_map={id in the mask: class index}, with 255 for void"
        )
    names = feature.names or [f"class {index}" for index in range(known)]
    return MaskSet(image, masks[0], tuple(names), {}, others=False)


class _Downloaded(records.Record, frozen=True, kw_only=True):
    """What TFDS writes beside a finished download, as FILE.INFO."""

    urls: list[str] = []  # noqa: RUF012 (msgspec copies it)


def _downloaded(folder: Path) -> set[str]:
    """Return the addresses whose files lie in TFDS' folder of downloads."""
    found: set[str] = set()
    for file in folder.glob("*.INFO") if folder.is_dir() else ():
        found.update(records.read(file, _Downloaded).urls)
    return found


class TfdsSource(Source):
    """A TFDS set with masks: `open("tfds:NAME")` or `open("tfds:NAME/CONFIG")`."""

    kind = "tfds"

    def __init__(self, place: str, options: Options = NO_OPTIONS) -> None:
        if options.palette is not None:
            raise UsageError("`palette` is for folders; TFDS masks hold ids (use id_map)")
        name, data_dir, id_map = place, options.data_dir, options.id_map
        self.name, self._cache = f"tfds:{name}", options.cache_dir
        self._tfds = self._prepared(name, data_dir)
        info = self._tfds.info
        self._set = SETS.get(self._tfds.name) or _find_set(name, info.features, id_map)
        missing = [key for key in (self._set.image, self._set.mask) if key not in info.features]
        if missing:
            raise DataError(
                f"{self.name} has no feature '{missing[0]}' in this configuration. Known configurations: "
                f"{', '.join(self._tfds.builder_configs) or 'none'}"
            )
        self.splits = {split: int(value.num_examples) for split, value in info.splits.items()}
        digest = hashlib.sha256(repr((info.full_name, sorted(self.splits.items()), id_map)).encode())
        self.fingerprint = digest.hexdigest()[:16]
        self.spec = Spec(
            classes=self._set.classes,
            palette=self._set.palette,
            data=self.data_record(version=info.full_name),
        )
        self._table = self._make_table(id_map)
        self._copy: Any = None
        self._streams: dict[str, _Stream] = {}

    @staticmethod
    def _prepared(name: str, data_dir: Any) -> tfds.core.DatasetBuilder:
        """Find the set on disk; download and prepare it when it is not there."""
        try:
            with builders.quiet():
                builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
                if not builder.is_prepared():
                    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False, file_format="array_record")
                prepared = builder.is_prepared()
        except tfds.core.DatasetNotFoundError as error:
            raise UsageError(
                f"TFDS has no set '{name}'.{did_you_mean(name, list(SETS))} "
                f"Known sets with masks: {', '.join(SETS)}"
            ) from error
        except Exception as error:
            raise DataError(f"tfds:{name} cannot be opened: {_one_line(error)}") from error
        if prepared:
            return builder
        TfdsSource._check_reach(name, builder)
        print(
            f"kseg: tfds:{name} is not in {builder.data_dir}; downloading and preparing it", file=sys.stderr
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            with builders.quiet(), contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=config)
        except Exception as error:
            raise DataError(
                f"tfds:{name} is not prepared in {builder.data_dir}, and preparing it failed: "
                f"{_one_line(error)}. Prepare it with: tfds build {name} --file_format=array_record"
            ) from error
        return builder

    @staticmethod
    def _check_reach(name: str, builder: tfds.core.DatasetBuilder) -> None:
        """Refuse at once what TFDS' downloader would refuse after ten retries of each file (3.5 minutes)."""
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            return  # nothing is downloaded: TFDS says what to fetch by hand
        had = _downloaded(Path(builder.data_dir_root) / "downloads")
        urls = [url for url in builder.url_infos or {} if url not in had]
        if not builder.url_infos and builder.info.homepage:
            urls = [builder.info.homepage]
        reasons = unreachable(urls)
        if reasons:
            raise DataError(
                f"tfds:{name} is not prepared in {builder.data_dir}, and the network does not answer "
                f"({reasons}). On a machine with network, prepare it with: "
                f"tfds build {name} --file_format=array_record; then copy the folder here"
            )

    def _make_table(self, id_map: Mapping[int, int] | None) -> np.ndarray:
        table = np.full(256, self.spec.ignore_id) if self._set.others else np.arange(256)
        for old, new in (id_map if id_map is not None else self._set.id_map).items():
            if not 0 <= old <= 255 or not 0 <= new <= 255:
                raise UsageError(f"Argument `id_map` must map 0-255 to 0-255. Received: {old}: {new}")
            table[old] = new
        return table.astype(np.uint8)

    def _sample(self, example: Mapping[str, Any], index: int) -> Sample:
        image = np.asarray(example[self._set.image])
        if image.ndim == 2 or image.shape[2] == 1:
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        pixels = np.ascontiguousarray(image[..., :3], np.uint8)
        return Sample(self._name(example, index), pixels, self._mask(example))

    def _mask(self, example: Mapping[str, Any]) -> np.ndarray:
        mask = np.asarray(example[self._set.mask])
        if mask.ndim == 3:
            mask = mask[..., self._set.channel]
        if mask.max(initial=0) > 255:
            raise DataError(f"{self.name}: a mask holds id {int(mask.max())}; ids up to 255 are supported")
        return self._table[mask]

    @staticmethod
    def _name(example: Mapping[str, Any], index: int) -> str:
        for key in _NAME_KEYS:
            if key in example:
                value = example[key]
                return value.decode() if isinstance(value, bytes) else str(value)
        return f"{index:06d}"

    def stored(self, split: str, index: int) -> tuple[Sample, Path | None]:
        """Read one image of a set without random access; for the builder, which goes in order."""
        return self._sample(self._streams[split].get(index), index), None

    def builder(self) -> tfds.core.DatasetBuilder:
        """Return TFDS' own builder of the set."""
        return self._tfds

    def _cached(self) -> tfds.core.DatasetBuilder:
        if self._copy is None:
            self._streams = {split: _Stream(self._tfds, split) for split in self.splits}
            try:
                self._copy = builders.prepare(
                    self,
                    self.splits,
                    source=self.name,
                    variant=f"{self._tfds.data_dir} {self._table.tolist()}",
                    state=self.fingerprint,
                    cache=self._cache,
                )
            finally:
                self._streams = {}
        return self._copy

    def samples(self, split: str, limit: int | None = None, *, instances: bool = True) -> Samples:
        self.check_split(split)
        if self._tfds.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            return examples.open_samples(self._cached(), split, self.spec, limit, instances, self.name)
        with builders.quiet():
            records = self._tfds.as_data_source(split=split)
        return Samples(records, self._sample, self.spec, limit, self._mask)


class _Stream:
    """Gives examples by index out of a sequential reader, to threads that ask in nearly rising order."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._open = lambda: iter(tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)))
        self._lock = threading.Lock()
        self._iterator: Iterator[Any] | None = None
        self._next, self._waiting = 0, dict[int, Any]()

    def get(self, index: int) -> Any:
        with self._lock:
            if self._iterator is None:
                self._iterator = self._open()
            while index not in self._waiting:
                self._waiting[self._next] = next(self._iterator)
                self._next += 1
            return self._waiting.pop(index)
