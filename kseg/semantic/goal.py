"""What a training asks of semantic segmentation: pixels per class, class weights, loss, mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kseg import losses, metrics
from kseg.data.batches.targets import semantic_target
from kseg.data.checking import conditions
from kseg.data.counting.counts import ClassCounts, count_masks, id_counts, survey
from kseg.data.sample import masks_of
from kseg.metrics.chance import chance_miou, near_chance
from kseg.models.forms import Head
from kseg.progress import Say, said
from kseg.spec import Spec
from kseg.training.config import TrainConfig
from kseg.training.goal import Seen
from kseg.training.sampling import balancing_weights
from kseg.training.settled import Settled

# A thousand masks are counted in some seconds.
SAID_EVERY = 1000


class SemanticGoal:
    """See `kseg.training.goal.Goal`; its facts are the pixels per class (`ClassCounts`)."""

    encode = semantic_target

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def look(self, samples: Sequence[Any], spec: Spec, split: str, say: Say) -> Seen:
        """Look at up to 500 samples, and count all where class weights are asked for.

        What `kseg check-data` calls unfit is refused for the same reason.
        """
        _require(conditions.of_classes(spec))
        masks = masks_of(samples)
        seen = survey(masks, spec)
        pasted = bool(spec.data.get("instances"))
        _require(conditions.of_training(seen.counts, spec, split, pasted=pasted))
        config = self._config
        unasked = config.class_weights == "none" or (config.balanced and config.on_patches)
        if unasked or seen.counts.images == len(masks):
            return Seen(seen.sizes, seen.counts)
        return Seen(seen.sizes, count_masks(masks, spec, said(say, SAID_EVERY)))

    def recount(self, samples: Sequence[Any], spec: Spec) -> ClassCounts:
        """Return the pixels per class of samples that are cut from others."""
        return survey(masks_of(samples), spec).counts

    def check_held_out(self, samples: Sequence[Any], spec: Spec, split: str) -> None:
        """Refuse samples of which every pixel is void."""
        if all((sample.mask == spec.ignore_id).all() for sample in samples):
            raise conditions.of_void(split).raised()

    def class_weights(self, facts: ClassCounts, batch_size: int) -> list[float] | None:
        """Return one weight per class, or None where the arguments ask for none."""
        config = self._config
        if config.class_weights == "none":
            return None
        if config.balanced:
            # Patches are drawn equally often from all classes and need none.
            if config.on_patches:
                return None
            weights = balancing_weights(facts.images_with / facts.images, batch_size)
        else:
            # A mean of one over all pixels: the loss keeps its size, and the learning rate its meaning.
            weights = facts.weights(config.class_weights, power=config.class_weights_power, mean_one=True)
        return [round(float(weight), 6) for weight in weights]

    def loss(self, settled: Settled, head: Head | None = None) -> Any:
        """Return the pixel loss that the arguments name."""
        # Class weights are those of the data's classes: a head with labels of its own has other ones.
        own = head is not None and head.labels is not None
        return losses.create(
            self._config.loss,
            ignore_id=settled.spec.ignore_id,
            class_weights=None if own else settled.class_weights,
            **dict(self._config.loss_args),
        )

    def metrics(self, settled: Settled) -> list[keras.metrics.Metric]:
        """Return mean IoU."""
        spec = settled.spec
        return [metrics.MeanIoU(num_classes=spec.num_classes, ignore_id=spec.ignore_id, name="miou")]

    def chance(self, spec: Spec, validation: Any, score: float) -> dict[str, Any]:
        """Return `chance_miou` of the validation truth and `beats_chance`; nothing where all is void."""
        counts = ClassCounts(spec.num_classes, spec.ignore_id)
        for index in range(len(validation)):
            counts.add(id_counts(validation[index][1]))
        if not counts.valid:
            return {}
        chance = chance_miou(counts.pixels)
        return {"chance_miou": chance, "beats_chance": not near_chance(score, chance)}


def _require(unmet: conditions.Condition | None) -> None:
    if unmet is not None:
        raise unmet.raised()
