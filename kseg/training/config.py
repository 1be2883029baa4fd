"""The arguments of one training run: plain values that are written to `run.json` and read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kseg import records
from kseg.data.counting.weights import SCHEMES as CLASS_WEIGHTS
from kseg.errors import UsageError, check_choice, did_you_mean
from kseg.text import printable

SAMPLES_PER_IMAGE = 64
SAMPLINGS = ("all", "pixels", "balanced-pixels", "patches", "balanced-patches")
CROPS = ("objects", "proposals")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "poly", "constant")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
XLA = ("auto", "on", "off")
AUTO = "auto"

TRACKERS = ("tensorboard", "wandb", "mlflow")
CACHES = ("auto", "memory", "none")
RESIZE = ("none", "stretch", "fit")

# Fields that may differ when a run is resumed: they name the place or what is shown, not the numbers.
_NOT_COMPARED = ("out", "resume", "cache", "tensorboard", "track")

Size = tuple[int, int]

# Beyond these a value is a slip of the keyboard. float32 ends at 3e38, and squares of a rate are taken.
MOST = 1e10
MOST_SIDE = 2**15
MOST_PIXELS = 2**28
# numpy's generators take no more, and Keras seeds them.
MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Args:
        least: the smallest value.
        most: the largest.
        whole: whether it must be a whole number.
        above: whether `least` itself is too small.
        below: whether `most` itself is too large.
        optional: whether None is a value too.
    """

    least: float
    most: float
    whole: bool = False
    above: bool = False
    below: bool = False
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise UsageError, which names argument, range and what was received, if `value` is outside."""
        if value is None and self.optional:
            return
        kind = int if self.whole else int | float
        inside = isinstance(value, kind) and not isinstance(value, bool) and self.least <= value <= self.most
        if not inside or (self.above and value == self.least) or (self.below and value == self.most):
            huge = isinstance(value, int) and value.bit_length() > 256
            shown = f"an integer of {value.bit_length()} bits" if huge else printable(repr(value), 60)
            raise UsageError(f"Argument `{name}` must be {self}. Received: {name}={shown}")

    def __str__(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        low, high = (f"{bound:.15g}" for bound in (self.least, self.most))
        return f"{noun} {'>' if self.above else '>='} {low} and {'<' if self.below else '<='} {high}"


def _whole(least: int, most: int, optional: bool = False) -> Range:
    return Range(least, most, whole=True, optional=optional)


# The one table of ranges: the command line and Python meet it in `TrainConfig`.
RANGES = {
    "epochs": _whole(1, 10**6),
    "batch_size": _whole(1, 2**16),
    "seed": _whole(0, MOST_SEED),
    "bn_batches": _whole(0, 10**6),
    "limit": _whole(1, 2**31, optional=True),
    "val_limit": _whole(1, 2**31, optional=True),
    "patience": _whole(1, 10**6, optional=True),
    "val_every": _whole(1, 10**6, optional=True),
    "samples_per_image": _whole(1, 10**6, optional=True),
    "warmup_steps": _whole(0, 2**31, optional=True),
    "learning_rate": Range(0, MOST, above=True),
    "clip_norm": Range(0, MOST, above=True, optional=True),
    "weight_decay": Range(0, 1e3),
    "class_weights_power": Range(0, 10),
    "ema": Range(0, 1, below=True, optional=True),
    "momentum": Range(0, 1, below=True),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Args:
        model: name of a model, for example `"fcn8s"` (see `kseg models`).
        data: data source: a folder, `tfds:NAME` or `sample:nuclei`.
        out: run folder that is made.
        model_args: further keyword arguments of the model (JSON values only).
        encoder: encoder name, for the models that take one.
        weights: `"imagenet"` or a path, for the models that take it; None: from scratch.
        size: (height, width) at which the network is validated, predicts and is exported. None: the
            size of the images when all agree, otherwise the training crop.
        resize: how an image meets `size`: `"stretch"`, `"fit"` or `"none"` (see `kseg.Spec`). None: `"none"`
            when `size` is not given or is that of the images, otherwise `"stretch"` where that keeps the
            aspect ratio within 2 %, else `"fit"`.
        crop: (height, width) of the training images. None: `size`.
        epochs: passes over the training split, at least 1.
        batch_size: images per step, at least 1; `"auto"`: as many as fit into memory and still
            make a step faster per image, found by training steps.
        init_from: a `.keras` file of kseg: layers of the same name and shape start with its weights.
        freeze: regular expression; layers whose name holds it are not trained.
        sampling: which pixels are trained on. `"all"` labelled ones; `"pixels"`: some of each image, drawn
            uniformly; `"patches"`: patches around single pixels of the whole split, for networks that have
            a patch form (`batch_size` then counts patches). With `"balanced-"` before it all classes count
            the same: patches are drawn so; of whole images, the classes that a batch shows have equal
            shares, and the class weights only make up for the batches in which a class is missing.
        samples_per_image: pixels or patches per image and epoch, for `sampling` other than `"all"`. None: 64.
        crops: train on crops of the images instead of whole ones: `"objects"` (one around each labelled
            object, everything else background) or `"proposals"` (boxes that overlap an object), each
            resized to `crop`; the two stages of DeconvNet. None: whole images.
        crops_args: further arguments of `kseg.data.crops`.
        train_split: split to train on; a TFDS slice such as `"train[:90%]"` works.
        val_split: split to validate on. None: `val` or `validation`, if there is one.
        limit: use only the first N training images. None: all.
        val_limit: use only the first N validation images. None: all.
        seed: of weights, dropout, shuffling and augmentation.
        resume: continue the run in `out` after its last finished epoch.
        loss: a name of `kseg.losses`, or a sum of them such as `"cross_entropy+0.5*dice"`.
        loss_args: keyword arguments of the loss (only for a single loss).
        class_weights: scheme of `kseg.data.class_weights`, or `"none"`.
        class_weights_power: exponent on those weights; 0.5 is the square root, 0.25 milder still. High
            powers make rare classes be found, and be found where they are not.
        optimizer: `"adamw"`, `"adam"` or `"sgd"` (Nesterov).
        momentum: of SGD, in [0, 1).
        learning_rate: the peak, after the warm-up.
        lr_multipliers: regular expression -> factor on the learning rate of the variables whose path holds
            it, for example `{"bias$": 2.0}`; the first that fits counts.
        weight_decay: decoupled decay, not applied to biases and to normalisation's gamma and beta.
        clip_norm: bound on the norm of the whole gradient. None: no bound.
        schedule: `"cosine"`, `"poly"` (power 0.9) or `"constant"`.
        warmup_steps: steps of linear growth from 0. None: 5 % of all steps, at most 150.
        ema: momentum of the averaged weights, 0 to turn them off. None: 0.998 when the run has at
            least 200 steps, otherwise off.
        precision: `"auto"` (time it and take the fastest), or a Keras dtype policy.
        xla: compile the training step by XLA: `"auto"` (on TensorFlow's GPU time it, on its CPU never),
            `"on"` or `"off"`.
        augment: train on flipped, scaled, cropped and recoloured images.
        augment_args: strengths of the augmentation (see `kseg.data.Augment`).
        patience: stop after so many epochs without a better validation mIoU. None: never.
        val_every: validate every N epochs. None: often enough to follow, at most about 40 times.
        bn_batches: after training, measure the statistics of batch normalisation anew over so many
            training batches (DeconvNet takes 500). 0: keep the moving averages.
        cache: keep decoded images in memory: `"auto"` (if they fit), `"memory"` or `"none"`.
        tensorboard: write TensorBoard files. None: if TensorBoard is installed (TensorFlow backend only).
        track: where the curves go besides: any of `"tensorboard"`, `"wandb"`, `"mlflow"`, each by the extra
            of its name and configured by its own environment variables (`WANDB_MODE`, `MLFLOW_TRACKING_URI`).

    Raises:
        UsageError: if a value is out of range.
    """

    model: str
    data: str
    out: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    encoder: str | None = None
    weights: str | None = None
    size: Size | None = None
    resize: str | None = None
    crop: Size | None = None
    epochs: int = 30
    batch_size: int | str = 8
    init_from: str | None = None
    freeze: str | None = None
    sampling: str = "all"
    samples_per_image: int | None = None
    crops: str | None = None
    crops_args: Mapping[str, Any] = field(default_factory=dict)
    train_split: str = "train"
    val_split: str | None = None
    limit: int | None = None
    val_limit: int | None = None
    seed: int = 0
    resume: bool = False
    loss: str = "cross_entropy"
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    class_weights: str = "median_frequency"
    class_weights_power: float = 0.25
    optimizer: str = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    clip_norm: float | None = None
    schedule: str = "cosine"
    warmup_steps: int | None = None
    ema: float | None = None
    precision: str = "auto"
    xla: str = "auto"
    augment: bool = True
    augment_args: Mapping[str, Any] = field(default_factory=dict)
    patience: int | None = None
    val_every: int | None = None
    bn_batches: int = 0
    cache: Literal["auto", "memory", "none"] = "auto"
    tensorboard: bool | None = None
    track: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("xla", XLA),
            ("class_weights", CLASS_WEIGHTS),
            ("cache", CACHES),
            ("sampling", SAMPLINGS),
        ):
            check_choice(name, getattr(self, name), known)
        for name, choices in (("resize", RESIZE), ("crops", CROPS)):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), choices)
        object.__setattr__(self, "track", (self.track,) if isinstance(self.track, str) else tuple(self.track))
        for name in self.track:
            check_choice("track", name, TRACKERS)
        if self.tensorboard is False and "tensorboard" in self.track:
            raise UsageError("Argument `track` holds 'tensorboard', and `tensorboard` is False: choose one")
        for name, bounds in RANGES.items():
            if (name, getattr(self, name)) != ("batch_size", AUTO):
                bounds.check(name, getattr(self, name))
        self._check_parts()
        for name in ("size", "crop"):
            object.__setattr__(self, name, _checked_size(name, getattr(self, name)))

    def _check_parts(self) -> None:
        """Check what trains only a part of the network or of the images."""
        check_factors(self.lr_multipliers)
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
        """The batch size as a number; `kseg.training.settle` finds one for `"auto"`."""
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
        known = [item.name for item in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"Unknown training argument `{name}`.{did_you_mean(name, known)}")
        return records.convert(values, cls, where=where, error=UsageError)

    def differences(self, other: TrainConfig) -> list[str]:
        """Return one `name: other's value -> this value` line for each argument that changes the numbers."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [
            f"{name}: {theirs[name]!r} -> {mine[name]!r}"
            for name in mine
            if name not in _NOT_COMPARED and mine[name] != theirs[name]
        ]


def check_factors(rules: Mapping[str, Any]) -> None:
    """Check learning-rate multipliers.

    Raises:
        UsageError: for one that is not positive: weight decay would go on with a multiplier of 0, and batch
            normalisation's statistics too.
    """
    for rule, factor in rules.items():
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not 0 < factor <= MOST:
            raise UsageError(
                f"A learning rate multiplier must be a positive number, at most {MOST:g}; `freeze` holds "
                f"layers still (--freeze REGEX). Received: {rule!r}: {factor!r}"
            )


def check_step(batch_size: int, crop: Size) -> None:
    """Check that one training step has a number of pixels that a machine can hold.

    Raises:
        UsageError: beyond 2**28 pixels (3 GB of input alone).
    """
    pixels = batch_size * crop[0] * crop[1]
    if pixels > MOST_PIXELS:
        what = (
            f"{batch_size} images of {crop[0]} x {crop[1]} have"
            if batch_size > 1
            else f"{crop[0]} x {crop[1]} are"
        )
        raise UsageError(
            f"{what} {pixels:,} pixels; at most {MOST_PIXELS:,} are trained on at once. "
            f"Lower {'`batch_size`, or' if batch_size > 1 else '`size` or'} `crop`"
        )


def _checked_size(name: str, value: Any) -> Size | None:
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or not all(_is_whole(side) and 1 <= side <= MOST_SIDE for side in sides):
        raise UsageError(
            f"Argument `{name}` must be (height, width), both >= 1 and <= {MOST_SIDE}. "
            f"Received: {name}={printable(repr(value), 60)}"
        )
    check_step(1, sides)
    return sides


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
