"""Fine-tuning by `model.fit`: one pathway on its crops, or both together; and what is made of them.

The variants of the paper: "A", one network tuned on boxes is both pathways; "B", each pathway is tuned on its
own, boxes by the overlap of boxes, masked crops by that of regions; "C", both of B are tuned together. "box"
has the one pathway of R-CNN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kseg.data.batches.feeding import fed
from kseg.instance.sds.batches import RegionBatches
from kseg.instance.sds.outputs import LOGITS
from kseg.models import transfer
from kseg.models.instance.sds import BOX, REGION
from kseg.progress import Say
from kseg.training.callbacks import SetEpoch
from kseg.training.divergence import StopOnNaN
from kseg.training.multipliers import with_multipliers
from kseg.training.precision import jit_compile
from kseg.training.schedules import WarmUpCosine

# The release's.
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
_WARM_UP = 20


class _Tell(keras.callbacks.Callback):
    """Say each epoch's loss and accuracy."""

    def __init__(self, say: Say, name: str) -> None:
        super().__init__()
        self._say, self._name = say, name

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        found = logs or {}
        epochs = (self.params or {}).get("epochs")
        self._say(
            f"{self._name}: epoch {epoch + 1} of {epochs}, loss {found['loss']:.4f}, "
            f"{100 * found['accuracy']:.1f} % of regions right"
        )


def tune(
    network: keras.Model,
    batches: RegionBatches,
    *,
    epochs: int,
    learning_rate: float,
    name: str,
    say: Say,
    logits_rate: float = 1.0,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> dict[str, list[float]]:
    """Train the logits of a network by plain `model.fit`; return loss and accuracy of each epoch.

    Args:
        network: an `SDS` without SVMs and refiner.
        batches: crops and classes.
        epochs: passes over the images.
        learning_rate: the peak of stochastic gradient descent.
        name: what messages call the network.
        say: takes a line about each epoch.
        logits_rate: factor on the rate of the logits' weights, twice that on their constants (`lr_mult`
            of 10 and 20 in the release); 1: all learn at one rate, the constants too.
        callbacks: further ones.

    Raises:
        TrainingDivergedError: if the loss is no number.
    """
    steps = epochs * len(batches)
    kernel, bias = network.get_layer(LOGITS).trainable_variables
    factors = {kernel.path: logits_rate, bias.path: 2 * logits_rate} if logits_rate != 1 else {}
    kind = with_multipliers(keras.optimizers.SGD, factors) if factors else keras.optimizers.SGD
    network.compile(
        kind(
            WarmUpCosine(learning_rate, steps, steps // _WARM_UP),
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        ),
        loss={LOGITS: keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        metrics={LOGITS: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]},
        jit_compile=jit_compile(),
    )
    seen = network.fit(
        fed(batches),
        epochs=epochs,
        shuffle=False,  # the batches shuffle by seed and epoch
        verbose=0,
        callbacks=[SetEpoch(batches), StopOnNaN(f"{name}'s cross-entropy"), _Tell(say, name), *callbacks],
    )
    return {key: [float(value) for value in seen.history[key]] for key in ("loss", "accuracy")}


def joined(make: Callable[[], keras.Model], box: keras.Model, region: keras.Model) -> keras.Model:
    """Return a network of both pathways from one of each; its logits are the mean of theirs.

    Args:
        make: builds it.
        box: has the pathway `box`.
        region: has the pathway `region`; or `box` too, whose weights are then taken for regions (variant A).
    """
    network = make()
    transfer(box, network)
    path = (
        f"{REGION}_" if any(layer.name.startswith(f"{REGION}_fc") for layer in region.layers) else f"{BOX}_"
    )
    for layer in network.layers:
        if layer.weights and layer.name.startswith(f"{REGION}_"):
            layer.set_weights(region.get_layer(path + layer.name.removeprefix(f"{REGION}_")).get_weights())
    parts = [each.get_layer(LOGITS).get_weights() for each in (box, region)]
    kernel = np.concatenate([part[0] for part in parts])
    network.get_layer(LOGITS).set_weights([kernel / 2, (parts[0][1] + parts[1][1]) / 2])
    return network
