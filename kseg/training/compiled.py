"""The network of a run as `fit` takes it: itself or another form of it over the same weights, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kseg.layers.policy import dtype_policy
from kseg.models import forms
from kseg.training.config import TrainConfig
from kseg.training.goal import Goal
from kseg.training.multipliers import encoder_factors, freeze
from kseg.training.optimizers import create_optimizer
from kseg.training.sampling import ForHeads, TruthInside
from kseg.training.settled import Ground, Settled


@dataclass(frozen=True)
class Compiled:
    """A network and the form of it that is trained.

    Args:
        network: image -> outputs of its task; what is validated and saved.
        form: compiled for `fit`; the network itself, the network with all its heads, its patch form, or its
            form with losses inside.
        weights: factor on each loss that is inside the form, by name; None: none is.
    """

    network: keras.Model
    form: keras.Model
    weights: Mapping[str, float] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether `fit` trains the network itself, and can validate it too."""
        return self.form is self.network

    @property
    def losses_inside(self) -> bool:
        """Whether the form takes the truth and gives losses."""
        return self.weights is not None

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that a step may change: weights, statistics, seeds of dropout."""
        return list({id(item): item for item in (*self.network.variables, *self.form.variables)}.values())

    def feed(self, batches: Any) -> Any:
        """Return `batches` as the form takes them: labels for each output, or the truth as further inputs."""
        if self.losses_inside:
            return TruthInside(batches, list(self.form.output))
        heads = forms.heads(self.network)
        return ForHeads(batches, heads) if heads else batches


class Networks:
    """The networks of a run: one per dtype policy, built once, from its seed, however often it is tried.

    What trial steps have changed is put back when a network is chosen.

    Args:
        config: the arguments of the run.
        ground: what the network is built from.
    """

    def __init__(self, config: TrainConfig, ground: Ground) -> None:
        self._config, self._ground = config, ground
        self._built: dict[str, Compiled] = {}
        self._first: dict[str, list[Any]] = {}

    def under(self, policy: str) -> Compiled:
        """Return the network under a dtype policy; it may have been tried."""
        if policy not in self._built:
            self._built[policy] = self._build(policy)
        return self._built[policy]

    def tried(self, settled: Settled) -> keras.Model:
        """Return the form for trial steps by `settled`, compiled."""
        built = self.under(settled.precision)
        if settled.precision not in self._first:
            self._first[settled.precision] = [ops.convert_to_numpy(item).copy() for item in built.variables]
        return self._compile(built, settled).form

    def another(self, settled: Settled) -> keras.Model:
        """Return one more form, compiled by `settled`, to be tried beside the first and thrown away."""
        return self._compile(self._build(settled.precision), settled).form

    def chosen(self, settled: Settled) -> Compiled:
        """Return the network to train, as the run's seed makes it, compiled; let go of the others."""
        self.keep(settled.precision)
        built = self.under(settled.precision)
        for item, value in zip(built.variables, self._first.pop(settled.precision, ()), strict=False):
            item.assign(value)
        return self._compile(built, settled)

    def keep(self, policy: str | None = None) -> None:
        """Let go of the networks of other policies; None: of all, whose steps did not fit into memory."""
        for name in [name for name in self._built if name != policy]:
            del self._built[name]
            self._first.pop(name, None)

    def _build(self, policy: str) -> Compiled:
        config = self._config
        keras.utils.set_random_seed(config.seed)
        with dtype_policy(policy):
            network = self._ground.build(config.weights)
            if config.freeze:
                freeze(network, config.freeze)
            patch = forms.patch_form(network) if config.on_patches else None
            if patch is not None:
                return Compiled(network, patch.model)
            inside = forms.loss_form(network)
            if inside is not None:
                return Compiled(network, inside.model, inside.weights)
            return Compiled(network, forms.with_heads(network))

    def _compile(self, built: Compiled, settled: Settled) -> Compiled:
        config, goal, network, form = self._config, self._ground.goal, built.network, built.form
        with dtype_policy(settled.precision):
            factors = encoder_factors(form, settled.encoder_rate)
            optimizer = create_optimizer(config, settled.total_steps, form.trainable_variables, factors)
            if built.weights is not None:
                _compile_inside(form, built.weights, optimizer, settled.jit)
                return built
            loss: Any = goal.loss(settled)
            score: Any = goal.metrics(settled)
            weights = None
            if form is not network and isinstance(form.output, dict):
                heads = forms.heads(network)
                loss = {forms.MAIN: loss, **{head.name: goal.loss(settled, head) for head in heads}}
                weights = {forms.MAIN: 1.0, **{head.name: head.weight for head in heads}}
                score = {forms.MAIN: score}
            form.compile(
                optimizer=optimizer, loss=loss, loss_weights=weights, metrics=score, jit_compile=settled.jit
            )
            if form is not network:
                network.compile(**evaluation(goal, settled))
        return built


def _compile_inside(
    form: keras.Model, weights: Mapping[str, float], optimizer: keras.optimizers.Optimizer, jit: bool | str
) -> None:
    names = list(form.output)
    form.compile(
        optimizer=optimizer,
        loss=dict.fromkeys(names, _as_it_is),
        loss_weights={name: weights.get(name, 1.0) for name in names},
        jit_compile=jit,
    )


def _as_it_is(y_true: Any, y_pred: Any) -> Any:
    """The output is the loss."""
    return y_pred


def evaluation(goal: Goal, settled: Settled) -> dict[str, Any]:
    """Return the arguments of `compile` for a network that is only evaluated."""
    return {"loss": goal.loss(settled), "metrics": goal.metrics(settled), "jit_compile": settled.jit}
