"""What `fit` trains: the network itself, or another form of it over the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kseg import losses, metrics
from kseg.models import forms
from kseg.training.averaging import AverageWeights
from kseg.training.config import TrainConfig
from kseg.training.multipliers import encoder_factors, freeze
from kseg.training.optimizers import create_optimizer
from kseg.training.plan import Plan
from kseg.training.sampling import ForHeads


@dataclass(frozen=True)
class Fitted:
    """A network and the form of it that is trained.

    Args:
        network: image -> logits; what is validated and saved.
        form: compiled for `fit`; the network itself, the network with all its heads, or its patch form.
    """

    network: keras.Model
    form: keras.Model

    @property
    def is_plain(self) -> bool:
        """Whether `fit` trains the network itself, and can validate it too."""
        return self.form is self.network

    def feed(self, batches: Any) -> Any:
        """Return `batches` with one label map for each output of the form."""
        return labelled(self.network, batches)


def labelled(network: keras.Model, batches: Any) -> Any:
    """Return `batches` with one label map for each head of `network`, and one for its logits."""
    heads = forms.heads(network)
    return ForHeads(batches, heads) if heads else batches


def compiled(config: TrainConfig, plan: Plan) -> Fitted:
    """Build and compile the network of a run under the current dtype policy."""
    network = plan.build(config.weights)
    if config.freeze:
        freeze(network, config.freeze)
    form = forms.with_heads(network)
    patch = forms.patch_form(network)
    if patch is not None and config.on_patches:
        form = patch.model
    factors = encoder_factors(form, plan.encoder_rate)
    optimizer = create_optimizer(config, plan.total_steps, form.trainable_variables, factors)
    loss: Any = _loss(config, plan)
    score: Any = [_score(plan)]
    weights = None
    if isinstance(form.output, dict):
        heads = forms.heads(network)
        loss = {forms.MAIN: loss, **{head.name: _loss(config, plan, head) for head in heads}}
        weights = {forms.MAIN: 1.0, **{head.name: head.weight for head in heads}}
        score = {forms.MAIN: score}
    form.compile(optimizer=optimizer, loss=loss, loss_weights=weights, metrics=score, jit_compile=plan.jit)
    if form is not network:
        network.compile(**evaluation(config, plan))
    return Fitted(network, form)


def evaluation(config: TrainConfig, plan: Plan) -> dict[str, Any]:
    """Return the arguments of `compile` for a network that is only evaluated."""
    return {"loss": _loss(config, plan), "metrics": [_score(plan)], "jit_compile": plan.jit}


def _loss(config: TrainConfig, plan: Plan, head: forms.Head | None = None) -> Any:
    # Class weights are those of the data's classes: a head with labels of its own has other ones.
    own = head is not None and head.labels is not None
    return losses.create(
        config.loss,
        ignore_id=plan.spec.ignore_id,
        class_weights=None if own else plan.class_weights,
        **dict(config.loss_args),
    )


def _score(plan: Plan) -> keras.metrics.Metric:
    return metrics.MeanIoU(num_classes=plan.spec.num_classes, ignore_id=plan.spec.ignore_id, name="miou")


class ValidateNetwork(keras.callbacks.Callback):
    """Score the network on whole images while another form of it is trained.

    It must stand before the callbacks that read `val_loss` and `val_miou`.

    Args:
        network: compiled with the loss and the score.
        batches: of the validation split; None: only the names of the training scores are made plain.
        epochs: numbers (from 1) of the epochs that are validated.
        average: averaged weights that the network is scored with.
        check: called after each scoring; raises when the user has pressed Ctrl-C.
    """

    def __init__(
        self,
        network: keras.Model,
        batches: Any,
        epochs: list[int],
        average: AverageWeights | None,
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.network, self.batches, self.epochs = network, batches, epochs
        self.average, self.check = average, check

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        if f"{forms.MAIN}_miou" in logs:
            logs["miou"] = logs.pop(f"{forms.MAIN}_miou")
        if self.batches is None or epoch + 1 not in self.epochs:
            return
        if self.average is not None:
            self.average.on_test_begin()
        scores = self.network.evaluate(self.batches, verbose=0, return_dict=True)
        if self.average is not None:
            self.average.on_test_end()
        self.check()
        logs.update({f"val_{name}": value for name, value in scores.items()})
