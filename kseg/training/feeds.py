"""The batches of a run: whole images or crops of them, all labels or sampled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kseg import data
from kseg.data.sample import Mapped
from kseg.data.transforms.joint import transformed
from kseg.data.transforms.normalize import fill_color
from kseg.errors import UsageError
from kseg.progress import Say, said
from kseg.spec import Spec

if TYPE_CHECKING:
    from kseg.training.config import TrainConfig
    from kseg.training.limits import Size
    from kseg.training.settled import Ground

# What the arguments `sampling` and `crops` may be. The command line shows them: what makes them (Keras,
# OpenCV) is imported at its use.
SAMPLINGS = ("all", "pixels", "balanced-pixels", "patches", "balanced-patches")
CROPS = ("objects", "proposals")
SAMPLES_PER_IMAGE = 64
# DeconvNet resizes a crop to 250 x 250 and takes a random 224 x 224 of it.
CROP_MARGIN = 250 / 224
FLIP = 0.5
# Images per validation batch of a network that is trained on patches or crops.
WHOLE_IMAGES = 4
# Finding proposals takes up to a second per image.
SAID_EVERY = 100


def _resized(samples: Sequence[Any], resize: data.Resize) -> Sequence[Any]:
    """Return samples, each resized when it is read."""
    return Mapped(lambda sample: transformed(sample, resize), samples)


def training_samples(config: TrainConfig, samples: Any, spec: Spec, crop: Size, say: Say) -> Sequence[Any]:
    """Return what is trained on, at the network's scale: whole images, or crops around objects."""
    fill = fill_color(spec.normalization)
    if config.crops is not None:
        from kseg.data.crops.cropping import crops

        found = crops(config.crops, samples, spec, **{"progress": said(say, SAID_EVERY), **config.crops_args})
        say(
            f"{len(found)} crops around {config.crops}; "
            f"{len(found.missed)} of {len(samples)} images gave none"
        )
        margin = CROP_MARGIN if config.augment else 1.0
        size = (round(crop[0] * margin), round(crop[1] * margin))
        return _resized(found, data.Resize(size, "stretch", ignore_id=spec.ignore_id, fill=fill))
    if spec.resize == "none" or spec.input_size is None:
        return samples
    return _resized(samples, data.Resize(spec.input_size, spec.resize, ignore_id=spec.ignore_id, fill=fill))


@dataclass(frozen=True)
class Feeds:
    """The live batches of a run.

    Args:
        batches: training batches.
        validation: validation batches, None when the data has no val split.
    """

    batches: Any
    validation: Any


def make_feeds(config: TrainConfig, ground: Ground, batch_size: int) -> Feeds:
    """Return the batches of a run.

    Raises:
        UsageError: if patches are asked for and the network has no patch form.
        DataError: if the sampled classes are fewer than two.
    """
    if config.on_patches:
        batches = _patch_batches(config, ground, batch_size)
    else:
        batches = _image_batches(config, ground, batch_size)
    return Feeds(batches, _validation_batches(config, ground, batch_size))


def _patch_batches(config: TrainConfig, ground: Ground, batch_size: int) -> Any:
    from kseg.training.sampling import CentreSampler, PatchBatches

    if ground.patch is None:
        raise UsageError(
            f"{config.model} has no patch form: --sampling {config.sampling} trains patch networks "
            "(see `kseg models`). Use 'all', 'pixels' or 'balanced-pixels'"
        )
    other = [name for name in config.augment_args if name != "flip"]
    if other:
        raise UsageError(
            f"Patches are mirrored and nothing else. Received: augmentation by `{other[0]}`. "
            "Leave it out, or train on 'pixels' of whole images"
        )
    return PatchBatches(
        CentreSampler(ground.samples, ground.spec, config.balanced, config.cache),
        ground.spec,
        size=ground.patch.size,
        centre=ground.patch.centre,
        batch_size=batch_size,
        per_epoch=config.drawn_per_image * len(ground.samples),
        seed=config.seed,
        flip=float(config.augment_args.get("flip", FLIP)) if config.augment else 0.0,
    )


def _image_batches(config: TrainConfig, ground: Ground, batch_size: int) -> Any:
    from kseg.training.sampling import SparseLabels

    augment: Any = False
    if config.augment:
        augment = data.Augment(fill=fill_color(ground.spec.normalization), **config.augment_args)
    batches = data.Batches(
        ground.samples,
        ground.spec,
        size=ground.crop,
        batch_size=batch_size,
        augment=augment,
        seed=config.seed,
        shuffle=True,
        cache=config.cache,
        encode=ground.goal.encode,
    )
    if config.on_pixels:
        return SparseLabels(batches, config.drawn_per_image, config.balanced)
    return batches


def _validation_batches(config: TrainConfig, ground: Ground, batch_size: int) -> Any:
    """Return batches of whole images at the network's size, in order; None without a split to validate on."""
    if ground.held_out is None:
        return None
    size = ground.spec.input_size or ground.crop
    if config.crops is not None or config.on_patches:
        # A batch of patches or of crops says nothing about how many whole images fit.
        images = WHOLE_IMAGES
    else:
        # As many pixels as two training batches: a forward pass keeps less than a training step.
        step = batch_size * ground.crop[0] * ground.crop[1]
        images = min(batch_size, max(1, 2 * step // (size[0] * size[1])))
    return data.Batches(
        ground.held_out,
        ground.spec,
        size=size,
        batch_size=images,
        resize=ground.spec.resize,
        cache=config.cache,
        encode=ground.goal.encode,
    )
