"""What a run settles, in order: the ground (data, network, sizes), then, with its feeds, every number."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kseg import data, models, tasks
from kseg.data.batches.targets import needs_instances
from kseg.data.checking import conditions
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.models.forms import PatchForm, patch_form
from kseg.models.registry import altered, from_file, untrained
from kseg.models.shapes import shapes_only
from kseg.progress import Say
from kseg.spec import Spec
from kseg.text import printable
from kseg.training.batch_size import START
from kseg.training.config import AUTO, TrainConfig
from kseg.training.feeds import Feeds, training_samples
from kseg.training.goal import Goal, goal_of
from kseg.training.limits import Size, check_step
from kseg.training.precision import LEAST_STEPS
from kseg.training.starting_weights import (
    TOLD,
    settle_encoder_rate,
    settle_normalization,
    settle_versions,
    tell_network,
)

# Crops of images that are larger than this, or of several sizes, have at most this side.
CROP_SIDE = 512
CROP_MULTIPLE = 32
# The default momentum of the averaged weights.
EMA = 0.998
VALIDATIONS = 40
# Arguments of networks that the data or other options settle.
SETTLED = ("num_classes", "input_shape", "weights", "init_from")
# Stretching that changes the aspect ratio by less than this is not seen.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class Known:
    """What arguments, data and the weights to start from say.

    Args:
        architecture: registered model name.
        arguments: keyword arguments of the model, weights and input shape left out.
        spec: of the data, with input size and normalisation.
        crop: training size.
        image_size: median height and width of the images in the data; None where crops of objects are trained
            on.
        data_record: source, fingerprint and counts.
        encoder_rate: factor on the learning rate of the layers that start with pretrained weights.
    """

    architecture: str
    arguments: dict[str, Any]
    spec: Spec
    crop: Size
    image_size: Size | None
    data_record: dict[str, Any]
    encoder_rate: float


@dataclass(frozen=True, kw_only=True)
class Ground(Known):
    """What is there before anything is fed or tried.

    Args:
        samples: what is trained on, at the network's scale: images, or crops of them.
        task: what the network is trained for.
        goal: what the task says of this training.
        facts: what the goal knows of the samples.
        held_out: samples to validate on; None when the data has no val split.
        patch: the network's form on patches, its weights without values; None: no patches are trained on, or
            it has none.
    """

    samples: Sequence[Any]
    task: tasks.Task
    goal: Goal
    facts: Any
    held_out: Sequence[Any] | None
    patch: PatchForm | None

    def build(self, weights: str | None = None) -> keras.Model:
        """Build the network with unknown height and width, under the current dtype policy."""
        optional = {} if weights is None else {"weights": weights}
        return models.create(self.architecture, input_shape=(None, None, 3), **self.arguments, **optional)


@dataclass(frozen=True, kw_only=True)
class Settled(Known):
    """The settled values of a run: nothing in it lives, and nothing of it changes.

    Args:
        class_weights: one per class, or None.
        steps_per_epoch: batches per epoch.
        images_per_epoch: images per epoch.
        total_steps: steps of the whole run.
        ema: momentum of the averaged weights, 0 for none.
        validated_epochs: epochs (from 1) after which the model is validated.
        batch_size: images per step.
        batch_reason: why this batch size, in one line; empty when it was given.
        precision: dtype policy.
        precision_reason: why this policy, in one line.
        jit: Keras' `jit_compile`.
        jit_reason: why, in one line.
    """

    class_weights: list[float] | None
    steps_per_epoch: int
    images_per_epoch: int
    total_steps: int
    ema: float
    validated_epochs: list[int]
    batch_size: int
    batch_reason: str = ""
    precision: str = "float32"
    precision_reason: str = ""
    jit: bool | str = False
    jit_reason: str = ""

    @property
    def size(self) -> Size:
        """Network input size (height, width)."""
        return self.spec.input_size or self.crop

    @property
    def average_every(self) -> int:
        """Steps between two updates of the averaged weights: several in each epoch, at most every 10."""
        return max(1, min(10, self.steps_per_epoch // 4))

    def to_dict(self) -> dict[str, Any]:
        """Return what `run.json` keeps, JSON-ready."""
        return {
            "architecture": self.architecture,
            "arguments": self.arguments,
            "size": list(self.size),
            "crop": list(self.crop),
            "image_size": None if self.image_size is None else list(self.image_size),
            "normalization": dataclasses.asdict(self.spec.normalization),
            "class_weights": self.class_weights,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "ema": self.ema,
            "encoder_rate": self.encoder_rate,
            "precision": self.precision,
            "precision_reason": self.precision_reason,
            "jit_compile": self.jit,
            "jit_reason": self.jit_reason,
            "batch_size": self.batch_size,
            "batch_reason": self.batch_reason,
        }


def typical_size(sizes: tuple[Size, ...]) -> Size:
    """Return the median height and width."""
    return (
        int(statistics.median(height for height, _ in sizes)),
        int(statistics.median(width for _, width in sizes)),
    )


def choose_sizes(config: TrainConfig, sizes: tuple[Size, ...]) -> tuple[Size, Size]:
    """Return (network size, training crop).

    Images of one size are trained, validated and exported at that size, in crops when they are
    large. Images of several sizes are trained in crops, and the crop is the network size.
    """
    common = sizes[0] if len(sizes) == 1 else None
    typical = typical_size(sizes)
    size = config.size or common
    crop = config.crop or config.size
    if crop is None:
        crop = (_crop_side(typical[0]), _crop_side(typical[1]))
        if common is not None and max(common) <= CROP_SIDE:
            crop = common
    return size or crop, crop


def _crop_side(side: int) -> int:
    return max(CROP_MULTIPLE, min(side, CROP_SIDE) // CROP_MULTIPLE * CROP_MULTIPLE)


def model_arguments(config: TrainConfig, num_classes: int) -> tuple[str, dict[str, Any]]:
    """Return the registered model name and its keyword arguments.

    Raises:
        UsageError: if the model has no encoder or no weights to choose, or an argument is given twice.
    """
    entry = models.describe(config.model)
    arguments = dict(config.model_args)
    for name in SETTLED:
        if name in arguments:
            raise UsageError(
                f"`{name}` is not a model argument of training: the data or another option settles it"
            )
    if config.encoder is not None:
        if "encoder" in arguments:
            raise UsageError("The encoder is given twice: by --encoder and in --model-args")
        arguments["encoder"] = config.encoder
    for argument, (given, trained) in untrained(entry.name, arguments).items():
        raise UsageError(
            f"{entry.name} is trained as {trained!r}, and all its heads learn. Leave out `{argument}`; "
            f"afterwards: kseg rebuild MODEL --model-args '{json.dumps({argument: given}, default=str)}'"
        )
    if config.weights is not None and "weights" not in entry.parameters:
        raise UsageError(f"{entry.name} has no pretrained weights: leave out --weights")
    for name in arguments:
        if name not in entry.parameters:
            known = [key for key in entry.parameters if key not in SETTLED]
            raise UsageError(
                f"{entry.name} has no argument `{name}`.{did_you_mean(name, known)} "
                f"It takes: {', '.join(known)}"
            )
    return entry.name, {"num_classes": num_classes, **arguments}


def look(config: TrainConfig, before: Mapping[str, Any] | None, say: Say) -> Ground:
    """Open the data and settle what needs no batches.

    Args:
        config: the arguments.
        before: `run.json` of the run to resume; its decisions and its data are kept.
        say: prints one line.

    Raises:
        UsageError: an argument does not fit model or data.
        DataError: the data is wrong, or is not the data that the resumed run was started with.
    """
    source = data.open(config.data)
    source.check_split(config.train_split)
    _check_same_data(source, before)
    name, arguments = model_arguments(config, source.spec.num_classes)
    _check_same_network(config, name, arguments, before)
    arguments = settle_versions(name, arguments, config, before)
    entry = models.describe(name)
    task = tasks.find(entry.task)
    goal = goal_of(config, task)
    instances = config.crops is not None or needs_instances(goal.encode)
    samples = source.samples(config.train_split, limit=config.limit, instances=instances)
    seen = goal.look(samples, source.spec, config.train_split, say)
    size, crop = choose_sizes(config, seen.sizes)
    if not config.on_patches:
        check_step(min(START if config.batch_size == AUTO else config.images_per_step, len(samples)), crop)
    normalization = settle_normalization(entry, arguments, config, before)
    tell_network(entry, arguments, normalization)
    spec = source.spec.replace(
        task=task.name, input_size=size, resize=resize_rule(config, seen.sizes), normalization=normalization
    )
    patch = None
    if config.on_patches:
        with shapes_only():
            patch = patch_form(models.create(name, input_shape=(None, None, 3), **arguments))
    trained = training_samples(config, samples, spec, crop, say)
    split = validation_split(config, source.splits)
    return Ground(
        architecture=name,
        arguments=arguments,
        spec=spec,
        crop=crop,
        image_size=None if config.crops else typical_size(seen.sizes),
        samples=trained,
        task=task,
        goal=goal,
        # Crops around objects have other shares of the classes than the images they come from.
        facts=goal.recount(trained, spec) if config.crops else seen.facts,
        held_out=_held_out(config, goal, source, split, say),
        patch=patch,
        data_record=_data_record(config, source, split, samples),
        encoder_rate=settle_encoder_rate(entry, arguments, config, before),
    )


def settle_numbers(config: TrainConfig, ground: Ground, feeds: Feeds, batch_size: int) -> Settled:
    """Return the settled values of a run whose feeds have batches of `batch_size`; precision is float32."""
    steps = len(feeds.batches)
    total = steps * config.epochs
    every = config.val_every or max(1, -(-config.epochs // VALIDATIONS))
    return Settled(
        **{item.name: getattr(ground, item.name) for item in dataclasses.fields(Known)},
        class_weights=ground.goal.class_weights(ground.facts, batch_size),
        steps_per_epoch=steps,
        images_per_epoch=_items(feeds.batches, batch_size),
        total_steps=total,
        ema=_ema(config, total),
        validated_epochs=sorted({*range(every, config.epochs + 1, every), config.epochs}),
        batch_size=batch_size,
    )


def _held_out(
    config: TrainConfig, goal: Goal, source: Any, split: str | None, say: Say
) -> Sequence[Any] | None:
    """Return what is validated on, None (and say what to do) when there is no such split."""
    if split is None:
        say(
            f"{config.data} has no val split: the latest model is kept. To hold images out: "
            f"--train-split '{config.train_split}[:90%]' --val-split '{config.train_split}[90%:]'"
        )
        return None
    held_out = source.samples(split, limit=config.val_limit, instances=needs_instances(goal.encode))
    goal.check_held_out(held_out, source.spec, split)
    return held_out


def _items(batches: Any, batch_size: int) -> int:
    """Return the images, crops or patches of one epoch."""
    samples = getattr(getattr(batches, "batches", batches), "samples", None)
    drawn = len(batches) * batch_size
    return drawn if samples is None else min(len(samples), drawn)


def resize_rule(config: TrainConfig, sizes: tuple[Size, ...]) -> str:
    """Return how an image meets the network size; see `TrainConfig.resize`."""
    if config.resize is not None:
        return config.resize
    if config.size is None or sizes == (config.size,):
        return "none"
    height, width = config.size
    kept = all(abs(width * have_h / (height * have_w) - 1) <= ASPECT_TOLERANCE for have_h, have_w in sizes)
    return "stretch" if kept else "fit"


def _check_same_data(source: Any, before: Mapping[str, Any] | None) -> None:
    if before is None or before["data"]["fingerprint"] == source.fingerprint:
        return
    raise DataError(
        f"The data in '{source.name}' changed since this run was started (fingerprint {source.fingerprint}, "
        f"then {before['data']['fingerprint']}). Restore it, or start anew with another --out"
    )


def _check_same_network(
    config: TrainConfig, name: str, arguments: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Refuse to resume a run whose record says two things: it would go on with `resolved` in silence."""
    if before is None:
        return
    resolved = before["resolved"]
    built = resolved.get("architecture") or name
    changed = {"model": (built, name)}
    if built == name:
        kept = from_file(name, resolved.get("arguments") or {})
        changed = altered(name, json.loads(json.dumps(arguments)), kept, TOLD)
    if not changed:
        return
    said = "; ".join(
        f"{printable(key, 60)}: {printable(repr(kept), 60)} -> {printable(repr(given), 60)}"
        for key, (kept, given) in changed.items()
    )
    raise UsageError(
        f"In run.json of '{config.out}' the `arguments` are not those that the network was built with, which "
        f"`resolved` keeps ({said}). Put them back, or start anew with another --out"
    )


def _data_record(config: TrainConfig, source: Any, split: str | None, samples: Any) -> dict[str, Any]:
    return {
        "source": str(config.data),
        "fingerprint": source.fingerprint,
        "splits": dict(source.splits),
        "train_split": config.train_split,
        "val_split": split,
        "train_images": len(samples),
    }


def validation_split(config: TrainConfig, splits: Mapping[str, int]) -> str | None:
    """Return the split to validate on: as asked, else the first of val, validation, valid; None if none."""
    return conditions.validation_split(splits) if config.val_split is None else config.val_split


def _ema(config: TrainConfig, total_steps: int) -> float:
    if config.ema is not None:
        return config.ema
    return EMA if total_steps >= LEAST_STEPS else 0.0
