"""The arguments of one training run, each declared once: its text, its range, its option, its default."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from kseg import records
from kseg.checks import Range, check_choice
from kseg.data.cache.memory import CACHE_MODES
from kseg.data.counting.weights import SCHEMES as CLASS_WEIGHTS
from kseg.errors import UsageError, did_you_mean
from kseg.options import Option
from kseg.spec import RESIZE_RULES
from kseg.text import printable
from kseg.training.feeds import CROPS, SAMPLES_PER_IMAGE, SAMPLINGS
from kseg.training.limits import (
    MOST,
    MOST_SEED,
    check_factors,
    check_recordable,
    check_size,
    whole_number,
)
from kseg.training.optimizers import OPTIMIZERS, SCHEDULES
from kseg.training.precision import AUTO, PRECISIONS, XLA
from kseg.training.tracking import TRACKERS

# A tenth to a third is usual; of these the factor whose outcome is known (docs/provenance.md).
ENCODER_RATE = 0.3


def _argument(group: str, text: str, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """Declare a field; `more` is the rest of its `Option`."""
    metadata = {"option": Option(text, group, **more)}
    if default == {}:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


_run = functools.partial(_argument, "run")
_data = functools.partial(_argument, "data")
_model = functools.partial(_argument, "model")
_fitting = functools.partial(_argument, "fitting")
_augmentation = functools.partial(_argument, "augmentation")
_COUNT = whole_number(1, 2**31)
_MANY = whole_number(1, 10**6)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run: plain values that are written to `run.json` and read back.

    Raises:
        UsageError: if a value is out of range.
    """

    out: str = _run("run folder that is made", metavar="RUN", place=True)
    resume: bool = _run("go on behind the last finished epoch of the run in `out`", False, place=True)
    tensorboard: bool | None = _run(
        "write TensorBoard files; default: if TensorBoard is installed (TensorFlow backend only)",
        None,
        place=True,
    )
    track: Sequence[str] = _run(
        "also send the curves there, each by the extra of its name and configured by its own environment "
        "variables (WANDB_MODE, MLFLOW_TRACKING_URI); may be given several times",
        (),
        choices=TRACKERS,
        place=True,
    )

    data: str = _data("folder, tfds:NAME or sample:nuclei", metavar="DIR")
    size: tuple[int, int] | None = _data(
        "(height, width) at which the network is validated, predicts and is exported; default: that of the "
        "images when all agree, otherwise that of the crop",
        None,
        metavar="HxW",
    )
    resize: str | None = _data(
        "how an image meets `size`; default: none when it has that size, else stretch where that keeps the "
        "aspect ratio within 2 %, else fit",
        None,
        choices=RESIZE_RULES,
    )
    crop: tuple[int, int] | None = _data(
        "(height, width) of the training images; default: `size`", None, metavar="HxW"
    )
    train_split: str = _data("split to train on; slices such as 'train[:90%]' work", "train", metavar="SPLIT")
    val_split: str | None = _data(
        "split to validate on; default: val or validation, if there is one", None, metavar="SPLIT"
    )
    sampling: str = _data(
        "which pixels are trained on: all labelled ones; pixels, some of each image; patches around single "
        "pixels of the whole split, for networks that have a patch form (`batch_size` then counts patches); "
        "balanced: all classes count the same. Patches are drawn so; of whole images, the classes that a "
        "batch shows have equal shares, and class weights make up for batches in which a class is missing",
        "all",
        choices=SAMPLINGS,
    )
    samples_per_image: int | None = _data(
        f"pixels or patches per image and epoch, for `sampling` (default: {SAMPLES_PER_IMAGE})",
        None,
        metavar="N",
        bounds=_MANY,
    )
    crops: str | None = _data(
        "train on crops around labelled objects, everything else background, or on object proposals, each "
        "resized to `crop`: the two stages of DeconvNet; default: whole images",
        None,
        choices=CROPS,
    )
    crops_args: Mapping[str, Any] = _data(
        "arguments of the crops: per_image, enlarge, min_size, min_side, fill; of proposals also method, "
        "count, min_iou, replicate, max_side, quality, seed, edge_model",
        {},
        metavar="JSON",
    )
    limit: int | None = _data("use N training images only, evenly spaced", None, metavar="N", bounds=_COUNT)
    val_limit: int | None = _data(
        "use N validation images only, evenly spaced", None, metavar="N", bounds=_COUNT
    )
    cache: Literal["auto", "memory", "none"] = _data(
        "decoded images in memory; auto: if they fit", AUTO, choices=CACHE_MODES, place=True
    )

    model: str = _model("model (see: kseg models)", metavar="NAME")
    encoder: str | None = _model("encoder, for the models that take one", None, metavar="NAME")
    weights: str | None = _model("'imagenet' or a file; default: from scratch", None, metavar="W")
    init_from: str | None = _model(
        "a .keras file of kseg whose layers of the same name and shape are taken", None, metavar="FILE"
    )
    freeze: str | None = _model("do not train the layers whose name holds this", None, metavar="REGEX")
    model_args: Mapping[str, Any] = _model(
        "arguments of the model (see: kseg models NAME)", {}, metavar="JSON"
    )
    seed: int = _model(
        "of weights, dropout, shuffling and augmentation", 0, metavar="N", bounds=whole_number(0, MOST_SEED)
    )
    precision: str = _model("auto: time them here, take the fastest", AUTO, choices=PRECISIONS)
    xla: str = _model("compile steps by XLA; auto: on a GPU time it, on the CPU off", AUTO, choices=XLA)

    epochs: int = _fitting("passes over the training split", 30, metavar="N", bounds=_MANY)
    batch_size: int | str = _fitting(
        "images per step; auto: as many as fit and pay, found here by training steps",
        8,
        metavar="N",
        bounds=whole_number(1, 2**16),
    )
    loss: str = _fitting(
        "a loss or a sum of them, for example cross_entropy, focal, cross_entropy+0.5*dice",
        "cross_entropy",
        metavar="L",
    )
    loss_args: Mapping[str, Any] = _fitting("further arguments of a single loss", {}, metavar="JSON")
    class_weights: str = _fitting(
        "from the pixels of the training split", "median_frequency", choices=CLASS_WEIGHTS
    )
    class_weights_power: float = _fitting(
        "exponent on the class weights; 0.5: square root. High powers make rare classes be found, and be "
        "found where they are not",
        0.25,
        metavar="P",
        bounds=Range(0, 10),
    )
    optimizer: str = _fitting("sgd is Nesterov's", "adamw", choices=OPTIMIZERS)
    learning_rate: float = _fitting(
        "the peak, after the warm-up", 1e-3, metavar="R", bounds=Range(0, MOST, above=True)
    )
    momentum: float = _fitting("of sgd", 0.9, metavar="M", bounds=Range(0, 1, below=True))
    lr_multipliers: Mapping[str, float] = _fitting(
        "factors on the learning rate of the variables whose path holds a regular expression, for example "
        "'{\"bias$\": 2}'; the first that fits counts; default: 0.3 for an encoder that starts with "
        "`weights`, else none ('{\".\": 1}': none for it either)",
        {},
        metavar="JSON",
    )
    weight_decay: float = _fitting(
        "decoupled, not applied to biases and to normalisation's gamma and beta",
        0.01,
        metavar="D",
        bounds=Range(0, 1e3),
    )
    clip_norm: float | None = _fitting(
        "bound on the norm of the whole gradient; default: none",
        None,
        metavar="G",
        bounds=Range(0, MOST, above=True),
    )
    schedule: str = _fitting("of the learning rate; poly has power 0.9", "cosine", choices=SCHEDULES)
    warmup_steps: int | None = _fitting(
        "steps of linear growth from 0; default: 5 % of the run, at most 150",
        None,
        metavar="N",
        bounds=whole_number(0, 2**31),
    )
    ema: float | None = _fitting(
        "momentum of the averaged weights, 0: off; default: 0.998 in runs of at least 200 steps, else off",
        None,
        metavar="M",
        bounds=Range(0, 1, below=True),
    )
    patience: int | None = _fitting(
        "stop after N epochs without a better validation score; default: never",
        None,
        metavar="N",
        bounds=_MANY,
    )
    val_every: int | None = _fitting(
        "validate every N epochs; default: at most about 40 times", None, metavar="N", bounds=_MANY
    )
    bn_batches: int = _fitting(
        "after training, measure batch normalisation's statistics over N batches (DeconvNet takes 500); 0: "
        "keep the moving averages",
        0,
        metavar="N",
        bounds=whole_number(0, 10**6),
    )

    augment: bool = _augmentation("train on flipped, scaled, cropped and recoloured images", True)
    augment_args: Mapping[str, Any] = _augmentation(
        "strengths of the augmentation (see `kseg.data.Augment`)",
        {},
        parts={
            "flip": Option("probability of a left-right flip", metavar="P"),
            "flip_vertical": Option("probability of an upside-down flip", metavar="P"),
            "scale": Option("range of scales, for example 0.667-1.5", metavar="LOW-HIGH"),
            "rotation": Option("largest rotation to either side", metavar="DEGREES"),
            "color": Option("strength of the colour change, 0-1", metavar="S"),
        },
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "track", (self.track,) if isinstance(self.track, str) else tuple(self.track))
        for name in OPTIONS:
            value = getattr(self, name)
            check_value(name, value)
            if isinstance(value, str) and "\0" in value:
                raise UsageError(f"Argument `{name}` must not hold a NUL. Received: {name}={value!r}")
        if self.tensorboard is False and "tensorboard" in self.track:
            raise UsageError("Argument `track` holds 'tensorboard', and `tensorboard` is False: choose one")
        self._check_parts()
        for name in ("size", "crop"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))

    def _check_parts(self) -> None:
        """Check what trains only a part of the network or of the images."""
        check_factors(self.lr_multipliers)
        for name in OPTIONS:
            if isinstance(values := getattr(self, name), Mapping):
                check_recordable(name, values)
        if self.freeze == "":
            raise UsageError("Argument `freeze` must be a regular expression. Received: freeze=''")
        if self.samples_per_image is not None and self.sampling == "all":
            raise UsageError(
                f"Argument `samples_per_image` needs `sampling` of {' or '.join(SAMPLINGS[1:])}. "
                f"Received: samples_per_image={self.samples_per_image!r}, sampling='all'"
            )
        if self.crops_args and self.crops is None:
            raise UsageError(
                f"Argument `crops_args` needs `crops` ({' or '.join(CROPS)}). "
                f"Received: crops_args={dict(self.crops_args)!r}"
            )
        if self.crops is not None and self.on_patches:
            raise UsageError(
                "Arguments `crops` and `sampling` exclude each other: patches are cut around pixels. "
                f"Received: crops={self.crops!r}, sampling={self.sampling!r}"
            )

    @property
    def images_per_step(self) -> int:
        """The batch size as a number; `kseg.training.trials` finds one for `"auto"`."""
        if not isinstance(self.batch_size, int):
            raise UsageError(f"The batch size is not settled yet. Received: batch_size={self.batch_size!r}")
        return self.batch_size

    @property
    def drawn_per_image(self) -> int:
        """Sampled pixels or patches per image and epoch."""
        return SAMPLES_PER_IMAGE if self.samples_per_image is None else self.samples_per_image

    @property
    def on_patches(self) -> bool:
        """Whether single patches are trained on."""
        return self.sampling.endswith("patches")

    @property
    def on_pixels(self) -> bool:
        """Whether sampled pixels of whole images are trained on."""
        return self.sampling.endswith("pixels")

    @property
    def balanced(self) -> bool:
        """Whether all classes count the same."""
        return self.sampling.startswith("balanced")

    @property
    def examples(self) -> str:
        """What one training example is: images, crops or patches."""
        if self.on_patches:
            return "patches"
        return "images" if self.crops is None else "crops"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "Training arguments") -> TrainConfig:
        """Rebuild a config from `to_dict`'s values.

        Args:
            values: by name.
            where: names their source in messages.

        Raises:
            UsageError: for an unknown name, or a value of another type or out of range.
        """
        check_given(values, where)
        return records.convert(values, cls, where=where, error=UsageError)

    def differences(self, other: TrainConfig) -> list[str]:
        """Return one `name: other's value -> this value` line for each argument that changes the numbers."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{name}: {theirs[name]!r} -> {mine[name]!r}"
            for name in mine
            if name not in PLACES and mine[name] != theirs[name]
        ]


# Name of an argument -> how it is declared, in the order of the command's help.
OPTIONS: dict[str, Option] = {item.name: item.metadata["option"] for item in dataclasses.fields(TrainConfig)}
DEFAULTS: dict[str, Any] = {
    item.name: {} if item.default_factory is dict else item.default
    for item in dataclasses.fields(TrainConfig)
}
PLACES = tuple(name for name, option in OPTIONS.items() if option.place)


def _documented(text: str | None) -> str:
    """Return the docstring of `TrainConfig` with its arguments, from their declarations."""
    lines = [f"        {name}: {option.text}." for name, option in OPTIONS.items()]
    head, raises, rest = (text or "").partition("    Raises:")
    return "\n".join([f"{head}    Args:", *lines, "", f"{raises}{rest}"])


TrainConfig.__doc__ = _documented(TrainConfig.__doc__)


@functools.cache
def hints() -> dict[str, Any]:
    """Return the type of each argument."""
    return typing.get_type_hints(TrainConfig)


@functools.cache
def _given() -> type[msgspec.Struct]:
    """Return a record of some arguments: each may be left out."""
    fields = [(name, hint, None) for name, hint in hints().items()]
    made: Any = msgspec.defstruct("Given", fields, bases=(records.Record,), frozen=True, kw_only=True)
    return typing.cast("type[records.Record]", made)


def check_value(name: str, value: Any) -> None:
    """Check one argument of `TrainConfig` by what it declares.

    Raises:
        UsageError: naming the argument, what it may be and what was received.
    """
    option = OPTIONS[name]
    if value is None and DEFAULTS[name] is None:
        return
    if option.choices:
        for word in value if isinstance(DEFAULTS[name], tuple) else (value,):
            check_choice(name, word, tuple(option.choices))
    if option.bounds is not None and (name, value) != ("batch_size", AUTO):
        option.bounds.check(value, name)
    if name in ("size", "crop"):
        check_size(name, value)


def check_given(values: Mapping[str, Any], where: str) -> None:
    """Check some arguments of a run: known, of their type, in their range.

    Args:
        values: by name.
        where: names their source in messages.

    Raises:
        UsageError: naming source, argument, what was expected and what was received.
    """
    for name in values:
        if name not in OPTIONS:
            hint = did_you_mean(name, list(OPTIONS))
            raise UsageError(f"{where}: unknown training argument `{printable(name, 60)}`.{hint}")
    records.convert(values, _given(), where=where, error=UsageError)
    for name, value in values.items():
        try:
            check_value(name, value)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
