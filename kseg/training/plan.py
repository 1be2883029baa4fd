"""What a run settles before its first step: data, sizes, class weights, number of steps, precision."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kseg import data, models
from kseg.data.checking import conditions
from kseg.data.counting.counts import ClassCounts, count_masks, survey
from kseg.data.sample import masks_of
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.models.fcn_parts import SEMANTIC
from kseg.models.forms import patch_form
from kseg.models.shapes import shapes_only
from kseg.spec import Spec
from kseg.training.config import Size, TrainConfig, check_step
from kseg.training.feeding import training_batches, training_samples, validation_batches
from kseg.training.normalizing import settle_normalization, settle_versions, tell_network
from kseg.training.precision import LEAST_STEPS
from kseg.training.sampling import balancing_weights

# Crops of images that are larger than this, or of several sizes, have at most this side.
CROP_SIDE = 512
CROP_MULTIPLE = 32
# The default momentum of the averaged weights.
EMA = 0.998
VALIDATIONS = 40
# Arguments of networks that the data or other options settle.
SETTLED = ("num_classes", "input_shape", "weights", "init_from")
# Images per validation batch of a network that is trained on patches.
WHOLE_IMAGES = 4
# Stretching that changes the aspect ratio by less than this is not seen.
ASPECT_TOLERANCE = 0.02


@dataclass
class Plan:
    """The settled values of a run.

    Args:
        architecture: registered model name.
        arguments: keyword arguments of the model, weights and input shape left out.
        spec: of the data, with input size and normalisation.
        batches: training batches.
        validation: validation batches, None when the data has no val split.
        size: network input size (height, width).
        crop: training size.
        image_size: median height and width of the images in the data; None where crops of objects are trained
            on.
        class_weights: one per class, or None.
        steps_per_epoch: batches per epoch.
        images_per_epoch: images per epoch.
        total_steps: steps of the whole run.
        ema: momentum of the averaged weights, 0 for none.
        validated_epochs: epochs (from 1) after which the model is validated.
        data_record: source, fingerprint and counts.
        precision: dtype policy.
        precision_reason: why this policy, in one line.
        jit: Keras' `jit_compile`.
        jit_reason: why, in one line.
        batch_reason: why this batch size, in one line; empty when it was given.
    """

    architecture: str
    arguments: dict[str, Any]
    spec: Spec
    batches: Any
    validation: Any
    size: Size
    crop: Size
    image_size: Size | None
    class_weights: list[float] | None
    steps_per_epoch: int
    images_per_epoch: int
    total_steps: int
    ema: float
    validated_epochs: list[int]
    data_record: dict[str, Any]
    precision: str
    precision_reason: str
    batch_size: int
    jit: bool | str = False
    jit_reason: str = ""
    batch_reason: str = ""

    @property
    def average_every(self) -> int:
        """Steps between two updates of the averaged weights: several in each epoch, at most every 10."""
        return max(1, min(10, self.steps_per_epoch // 4))

    def build(self, weights: str | None = None) -> keras.Model:
        """Build the network with unknown height and width, under the current dtype policy."""
        optional = {} if weights is None else {"weights": weights}
        return models.create(self.architecture, input_shape=(None, None, 3), **self.arguments, **optional)

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
            "precision": self.precision,
            "precision_reason": self.precision_reason,
            "jit_compile": self.jit,
            "jit_reason": self.jit_reason,
            "batch_size": self.batch_size,
            "batch_reason": self.batch_reason,
        }


def _require(unmet: conditions.Condition | None) -> None:
    """Refuse data that `kseg check-data` calls unfit, for the same reason."""
    if unmet is not None:
        raise unmet.raised()


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
    base = arguments.get("base_args")
    for given in (arguments, base if isinstance(base, Mapping) else {}):
        if given.get("output_head", SEMANTIC) != SEMANTIC:
            raise UsageError(
                "A network with two heads is trained as 'semantic', and both heads learn. Leave out "
                '`output_head`; afterwards: kseg rebuild MODEL --model-args \'{"output_head": "geometric"}\''
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


def make_plan(config: TrainConfig, before: Mapping[str, Any] | None, say: Callable[[str], None]) -> Plan:
    """Open the data and settle everything a run needs except what is tried (see `settle`).

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
    arguments = settle_versions(name, arguments, config, before)
    samples = source.samples(config.train_split, limit=config.limit, instances=config.crops is not None)
    _require(conditions.of_classes(source.spec))
    masks = masks_of(samples)
    seen = survey(masks, source.spec)
    _require(conditions.of_training(seen.counts, source.spec, config.train_split))
    size, crop = choose_sizes(config, seen.sizes)
    if not config.on_patches:
        check_step(min(config.images_per_step, len(samples)), crop)
    entry = models.describe(name)
    normalization = settle_normalization(entry, arguments, config, before)
    tell_network(entry, arguments, normalization)
    spec = source.spec.replace(
        input_size=size,
        resize=resize_rule(config, seen.sizes),
        normalization=normalization,
    )
    patch = None
    if config.on_patches:
        with shapes_only():
            patch = patch_form(models.create(name, input_shape=(None, None, 3), **arguments))
    trained = training_samples(config, samples, spec, crop, say)
    if config.crops:
        # Crops around objects have other shares of the classes than the images they come from.
        counts = survey(masks_of(trained), spec).counts
    elif config.class_weights == "none" or seen.counts.images == len(masks):
        counts = seen.counts
    else:
        counts = count_masks(masks, spec)
    batches = training_batches(config, trained, spec, crop, patch)
    split = validation_split(config, source.splits)
    steps = len(batches)
    total = steps * config.epochs
    every = config.val_every or max(1, -(-config.epochs // VALIDATIONS))
    return Plan(
        architecture=name,
        arguments=arguments,
        spec=spec,
        batches=batches,
        validation=_validation(config, source, split, spec, crop, say),
        size=size,
        crop=crop,
        image_size=None if config.crops else typical_size(seen.sizes),
        class_weights=_class_weights(config, counts),
        steps_per_epoch=steps,
        images_per_epoch=_items(batches, config.images_per_step),
        total_steps=total,
        ema=_ema(config, total),
        validated_epochs=sorted({*range(every, config.epochs + 1, every), config.epochs}),
        data_record=_data_record(config, source, split, samples),
        precision="float32",
        precision_reason="",
        batch_size=config.images_per_step,
    )


def _validation(
    config: TrainConfig, source: Any, split: str | None, spec: Spec, crop: Size, say: Callable[[str], None]
) -> Any:
    """Return the validation batches, None (and say what to do) when there is no such split."""
    if split is None:
        say(
            f"{config.data} has no val split: the latest model is kept. To hold images out: "
            f"--train-split '{config.train_split}[:90%]' --val-split '{config.train_split}[90%:]'"
        )
        return None
    held_out = source.samples(split, limit=config.val_limit, instances=False)
    if all((sample.mask == spec.ignore_id).all() for sample in held_out):
        raise conditions.of_void(split).raised()
    # A batch of patches or of crops says nothing about how many whole images fit.
    whole = config.crops is None and not config.on_patches
    like = config if whole else dataclasses.replace(config, batch_size=WHOLE_IMAGES)
    return validation_batches(like, held_out, spec, crop if whole else spec.input_size or crop)


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


def _class_weights(config: TrainConfig, counts: ClassCounts) -> list[float] | None:
    if config.class_weights == "none":
        return None
    if config.balanced:
        # Patches are drawn equally often from all classes and need none.
        if config.on_patches:
            return None
        weights = balancing_weights(counts.images_with / counts.images, config.images_per_step)
    else:
        # A mean of one over all pixels: the loss keeps its size, and the learning rate its meaning.
        weights = counts.weights(config.class_weights, power=config.class_weights_power, mean_one=True)
    return [round(float(weight), 6) for weight in weights]
