"""The Spec: the one object that travels data set -> model -> file -> runtime.

Plain Python and JSON only, so that a board which has numpy and a runtime can read it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kseg import records
from kseg.checks import check_choice
from kseg.errors import ArtefactError, UsageError
from kseg.text import printable

FORMAT = 1
RESIZE_RULES = ("none", "stretch", "fit")
ORDERS = ("rgb", "bgr")
# Masks have at most 16 bits, and an input of 8192 x 8192 floats has 0.8 GB.
MAX_CLASSES = 2**16
MAX_PIXELS = 2**26
_LONGEST_NAME = 1000
_MOST_UNITS = 1e6
_LEAST_STD = 1e-6

Color = tuple[int, int, int]


def voc_palette(count: int) -> tuple[Color, ...]:
    """Return `count` RGB colours (0-255) by PASCAL VOC's bit-reversal rule; index 0 is black."""
    colors = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How an 8-bit RGB image becomes network input: `(channels(image) - mean) / std`.

    Args:
        order: `"rgb"` or `"bgr"` (Caffe-trained VGG). `mean` and `std` are in this order.
        mean: three numbers in 0-255 units.
        std: three positive numbers in 0-255 units.
    """

    order: str = "rgb"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        check_choice("order", self.order, ORDERS, "Normalization")
        for name in ("mean", "std"):
            values = tuple(float(v) for v in getattr(self, name))
            # NaN fails every comparison.
            least = _LEAST_STD if name == "std" else -_MOST_UNITS
            if len(values) != 3 or not all(least <= value <= _MOST_UNITS for value in values):
                raise UsageError(
                    f"Normalization `{name}` must be three {'positive ' if name == 'std' else ''}"
                    f"numbers in 0-255 units. Received: {name}={getattr(self, name)!r}"
                )
            object.__setattr__(self, name, values)

    @classmethod
    def of(cls, value: Normalization | Mapping[str, Any] | None) -> Normalization:
        """Return a normalisation itself, made of a mapping of its fields, or the default one for None.

        Raises:
            UsageError: for anything else, unknown keys, or values out of range.
        """
        if value is None or isinstance(value, Normalization):
            return value or cls()
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(value, Mapping) or not set(value) <= set(known):
            raise UsageError(
                f"A normalization must be a mapping with keys of {', '.join(known)}. Received: {value!r}"
            )
        return records.convert(value, cls, where="A normalization", error=UsageError)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that a later step would otherwise have to guess or ask again.

    Args:
        classes: class names in index order, at most 65,536; their number is the number of logits. A name may
            hold any character; where names are printed or drawn, control characters are escaped.
        palette: one RGB colour (0-255) per class. Default: the PASCAL VOC colours.
        ignore_id: label value that losses, metrics and pictures leave out (void). Must not be a
            class index.
        task: name of a row of `kseg.tasks`: `"semantic"`, or that of another package, which is asked for at
            its use.
        input_size: `(height, width)` at which the network is run and exported; None: not fixed yet.
        resize: how an image of another size meets `input_size`: `"none"` (native resolution: pad
            small images bottom/right, tile large ones), `"stretch"` (resize both sides),
            `"fit"` (resize keeping the aspect ratio, pad bottom/right).
        normalization: see `Normalization`.
        architecture: registered model name, for example `"FCN8s"`; empty for a data set's spec.
        arch_args: keyword arguments that rebuild the network (JSON values only).
        data: where the training data came from: `source`, `fingerprint`, counts.
        recipe: how it was trained: seed, epochs, loss, schedule, versions, result.
        export: filled in artefacts: `format`, `precision`, `calibration`, `verify`.
        kseg_version: version of kseg that wrote the file.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...] = ()
    ignore_id: int = 255
    task: str = "semantic"
    input_size: tuple[int, int] | None = None
    resize: str = "none"
    normalization: Normalization = field(default_factory=Normalization)
    architecture: str = ""
    arch_args: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    kseg_version: str = ""

    def __post_init__(self) -> None:
        classes = tuple(str(name) for name in self.classes)
        if not classes:
            raise UsageError("Spec `classes` must name at least one class. Received: an empty list")
        if len(classes) > MAX_CLASSES:
            raise UsageError(f"Spec `classes` must be at most {MAX_CLASSES:,}. Received: {len(classes):,}")
        if max(map(len, classes)) > _LONGEST_NAME:
            raise UsageError(f"Spec `classes` must have names of at most {_LONGEST_NAME:,} characters")
        if len(set(classes)) != len(classes):
            twice = [name for name, count in Counter(classes).items() if count > 1]
            raise UsageError(
                f"Spec `classes` must be distinct. Received twice: {printable(', '.join(sorted(twice)), 300)}"
            )
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "palette", self._checked_palette())
        object.__setattr__(self, "ignore_id", int(self.ignore_id))
        if 0 <= self.ignore_id < len(classes):
            raise UsageError(
                f"Spec `ignore_id` must not be a class index (0-{len(classes) - 1}). "
                f"Received: ignore_id={self.ignore_id}, which is class "
                f"'{printable(classes[self.ignore_id])}'"
            )
        if not -MAX_CLASSES < self.ignore_id < MAX_CLASSES:
            raise UsageError(f"Spec `ignore_id` must have 16 bits. Received: ignore_id={self.ignore_id}")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", str(self.task)):
            raise UsageError(
                "Spec `task` must be the name of a task, such as 'semantic'. "
                f"Received: {printable(self.task, 100)}"
            )
        check_choice("resize", self.resize, RESIZE_RULES, "Spec")
        if self.input_size is not None:
            size = tuple(int(side) for side in self.input_size)
            if len(size) != 2 or min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
                raise UsageError(
                    "Spec `input_size` must be (height, width), both positive and at most "
                    f"{MAX_PIXELS:,} pixels. Received: {self.input_size!r}"
                )
            object.__setattr__(self, "input_size", size)
        if isinstance(self.normalization, Mapping):
            object.__setattr__(self, "normalization", Normalization(**self.normalization))

    def _checked_palette(self) -> tuple[Color, ...]:
        if not self.palette:
            return voc_palette(len(self.classes))
        palette = tuple((int(r), int(g), int(b)) for r, g, b in self.palette)
        if len(palette) != len(self.classes):
            raise UsageError(
                f"Spec `palette` must have one colour per class ({len(self.classes)}). "
                f"Received: {len(palette)} colours"
            )
        if any(not 0 <= value <= 255 for color in palette for value in color):
            wrong = next(color for color in palette if not all(0 <= value <= 255 for value in color))
            raise UsageError(f"Spec `palette` values must be 0-255. Received: {wrong}")
        return palette

    @property
    def num_classes(self) -> int:
        """Number of classes = number of logit channels."""
        return len(self.classes)

    @property
    def trained_size(self) -> tuple[int, int] | None:
        """(height, width) at which images were shown in training: `input_size` where they are resized to it.

        At native resolution it is the median of the images' own sizes. None where nothing is known, and for a
        network that was trained on crops around objects.
        """
        if self.resize != "none":
            return self.input_size
        resolved = self.recipe.get("resolved")
        if not isinstance(resolved, Mapping) or "image_size" not in resolved:
            return self.input_size
        size = resolved["image_size"]
        if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(s, int) for s in size):
            return None
        return (size[0], size[1]) if min(size) > 0 else None

    def replace(self, **changes: Any) -> Spec:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, with the format number that `from_dict` checks."""
        return {"format": FORMAT, **json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))}

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "The spec") -> Spec:
        """Rebuild a Spec.

        Args:
            values: what `to_dict` gave; unknown names are passed over.
            where: names the source in messages.

        Raises:
            ArtefactError: if the values were not written by `to_dict`, or by a newer kseg: names field, what
                was found and what was expected.
        """
        if not isinstance(values, Mapping) or "classes" not in values:
            raise ArtefactError(f"{where} is not a kseg spec: it has no `classes`.")
        version = records.convert(values, _Format, where=where).format
        if version is None or not 1 <= version <= FORMAT:
            raise ArtefactError(
                f"{where} has format {version!r}; this kseg reads formats 1-{FORMAT}. "
                "Upgrade kseg: pip install -U kseg"
            )
        return records.convert(values, cls, where=where)

    @classmethod
    def from_json(cls, text: str, *, where: str = "The spec") -> Spec:
        """Rebuild a Spec from `to_json`'s text; arguments and errors as in `from_dict`."""
        values: Any = records.parse(text, object, where=where, error=ArtefactError)
        return cls.from_dict(values, where=where)


class _Format(records.Record, frozen=True):
    """The number that says how the other fields are to be read."""

    format: int | None = None
