"""The batches of a run: whole images or crops of them, all labels or sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from kseg import data
from kseg.data.crops.cropping import crops
from kseg.data.sample import Mapped
from kseg.data.transforms.joint import transformed
from kseg.data.transforms.normalize import fill_color
from kseg.errors import UsageError
from kseg.models.forms import PatchForm
from kseg.spec import Spec
from kseg.training.config import Size, TrainConfig
from kseg.training.sampling import CentreSampler, PatchBatches, SparseLabels

# DeconvNet resizes a crop to 250 x 250 and takes a random 224 x 224 of it.
CROP_MARGIN = 250 / 224
FLIP = 0.5
# Finding proposals takes up to a second per image.
SAID_EVERY = 100

T = TypeVar("T")


def _resized(samples: Sequence[Any], resize: data.Resize) -> Sequence[Any]:
    """Return samples, each resized when it is read."""
    return Mapped(lambda sample: transformed(sample, resize), samples)


def _told(say: Callable[[str], None], total: int) -> Callable[[Iterable[T]], Iterator[T]]:
    """Return a wrapper of a loop over `total` images that says now and then how far it is."""

    def wrapped(images: Iterable[T]) -> Iterator[T]:
        for index, image in enumerate(images):
            if index % SAID_EVERY == 0:
                say(f"finding crops: image {index + 1} of {total}")
            yield image

    return wrapped


def training_samples(
    config: TrainConfig, samples: Any, spec: Spec, crop: Size, say: Callable[[str], None]
) -> Sequence[Any]:
    """Return what is trained on, at the network's scale: whole images, or crops around objects."""
    fill = fill_color(spec.normalization)
    if config.crops is not None:
        found = crops(
            config.crops, samples, spec, **{"progress": _told(say, len(samples)), **config.crops_args}
        )
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


def training_batches(
    config: TrainConfig, samples: Any, spec: Spec, crop: Size, patch: PatchForm | None
) -> Any:
    """Return the training batches of `config.sampling`, made of `training_samples`.

    Raises:
        UsageError: if patches are asked for and the network has no patch form.
        DataError: if the sampled classes are fewer than two.
    """
    if config.on_patches:
        if patch is None:
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
            CentreSampler(samples, spec, config.balanced, config.cache),
            spec,
            size=patch.size,
            centre=patch.centre,
            batch_size=config.images_per_step,
            per_epoch=config.drawn_per_image * len(samples),
            seed=config.seed,
            flip=float(config.augment_args.get("flip", FLIP)) if config.augment else 0.0,
        )
    augment: Any = False
    if config.augment:
        augment = data.Augment(fill=fill_color(spec.normalization), **config.augment_args)
    batches = data.Batches(
        samples,
        spec,
        size=crop,
        batch_size=config.images_per_step,
        augment=augment,
        seed=config.seed,
        shuffle=True,
        cache=config.cache,
    )
    if config.on_pixels:
        return SparseLabels(batches, config.drawn_per_image, config.balanced)
    return batches


def validation_batches(config: TrainConfig, samples: Any, spec: Spec, crop: Size) -> Any:
    """Return batches of whole images at the network's size, in order."""
    size = spec.input_size or crop
    # As many pixels as two training batches: a forward pass keeps less than a training step.
    most = config.images_per_step
    images = min(most, max(1, 2 * most * crop[0] * crop[1] // (size[0] * size[1])))
    return data.Batches(samples, spec, size=size, batch_size=images, resize=spec.resize, cache=config.cache)
