"""A learning rate of its own for chosen variables, as Caffe's `lr_mult`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kseg.errors import UsageError, did_you_mean
from kseg.layers.protocols import pretrained
from kseg.patterns import compiled
from kseg.training.limits import check_factors


def multipliers(rules: Mapping[str, float], variables: Sequence[keras.Variable]) -> dict[str, float]:
    """Return the factor of each variable that a rule names, by the variable's path.

    Args:
        rules: regular expression -> factor, for example `{"bias$": 2.0}`; the first that is found in a
            variable's path (such as `"fc6/kernel"`) counts.
        variables: the trainable variables.

    Raises:
        UsageError: if an expression is wrong or names no variable, or a factor is not positive.
    """
    check_factors(rules)
    found: dict[str, float] = {}
    used: set[str] = set()
    patterns = {rule: compiled(rule, "A learning rate multiplier") for rule in rules}
    for variable in variables:
        for rule, factor in rules.items():
            if patterns[rule].search(variable.path):
                found[variable.path] = float(factor)
                used.add(rule)
                break
    for rule in rules:
        if rule not in used:
            paths = [variable.path for variable in variables]
            raise UsageError(
                f"The learning rate multiplier {rule!r} names no trainable variable (or an earlier one named "
                f"them all).{did_you_mean(rule, paths)} There are, for example: {', '.join(paths[:4])}"
            )
    return found


def encoder_factors(network: keras.Model, factor: float) -> dict[str, float]:
    """Return `factor` for each variable that is trained from pretrained weights, by its path; none for 1.

    Args:
        network: layers whose weights `kseg.encoders.build` loaded have the attribute `pretrained`.
        factor: on the learning rate of these.
    """
    if factor == 1:
        return {}
    layers = pretrained(network)
    return {variable.path: factor for layer in layers for variable in layer.trainable_variables}


def with_multipliers(
    optimizer_class: type[keras.optimizers.Optimizer], factors: Mapping[str, float]
) -> type[keras.optimizers.Optimizer]:
    """Return `optimizer_class` with the step of each variable in `factors` multiplied.

    The step is what is multiplied, not the gradient, which Adam would normalise away. Weight decay, which
    Keras applies apart from the step, stays as it is: a factor of 0 would not hold a variable still, so it is
    refused (`freeze` does).

    Raises:
        UsageError: for a factor that is not positive.
    """
    check_factors(factors)

    class Multiplied(optimizer_class):  # type: ignore[misc, valid-type]
        def build(self, variables: Any) -> None:
            # By position: on TensorFlow `update_step` is given the backend's variable, which has no path.
            self._factors = [factors.get(variable.path, 1.0) for variable in variables]
            super().build(variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            factor = self._factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

    Multiplied.__name__ = optimizer_class.__name__
    return Multiplied


def freeze(model: keras.Model, rule: str) -> list[str]:
    """Make the layers whose name holds the regular expression `rule` not trainable; return their names.

    Raises:
        UsageError: if it names no layer with weights, or all of them.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    pattern = compiled(rule, "Argument `freeze`")
    chosen = [layer for layer in weighted if pattern.search(layer.name)]
    names = [layer.name for layer in weighted]
    if not chosen:
        raise UsageError(
            f"`freeze` names no layer with weights: {rule!r}.{did_you_mean(rule, names)} "
            f"There are, for example: {', '.join(names[:6])}"
        )
    for layer in chosen:
        layer.trainable = False
    if not model.trainable_variables:
        raise UsageError(f"`freeze` {rule!r} leaves nothing to train in {model.name}")
    return [layer.name for layer in chosen]
