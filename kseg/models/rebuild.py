"""The same weights in a network with other arguments."""

from __future__ import annotations

from typing import Any

import keras

from kseg.data.merged import merged_spec, original_spec
from kseg.errors import UsageError
from kseg.keras_file import at_most_weights
from kseg.models.registry import create, learned, unions
from kseg.models.transfer import shared, transfer

# The rebuilt network has the weights of the trained one: one far beyond it need not exist to be refused.
_FEW = 2**24
_MOST_GROWTH = 4


def rebuild(model: keras.Model, **changes: Any) -> keras.Model:
    """Return `model`'s architecture with some arguments changed, over copies of its weights.

    For arguments that decide how a trained network is evaluated, not what it has learned: the number of
    instances of a recurrent net, hard or soft switches, the evaluator of a patch net.

    Args:
        model: a network that `create` made or `kseg.load` read (it has `.info`).
        **changes: arguments of the architecture.

    Returns:
        A new network with `.info` and, where `model` has one, `.spec`.

    Raises:
        UsageError: if the model has no `.info`, an argument is unknown, or a layer of the new network
            finds no weights of its name and shape, or would use them for something else than they learned.

    Example:
        >>> twice = rebuild(model, instances=2)
    """
    info = getattr(model, "info", None)
    if info is None:
        raise UsageError(f"{model.name} has no `.info`: only networks of kseg.models can be rebuilt")
    arguments = {**info.arch_args, **changes}
    wanted = learned(info.architecture, arguments)
    for name, trained in learned(info.architecture, info.arch_args).items():
        if wanted.get(name, trained) != trained:
            raise UsageError(
                f"{info.architecture} has learned its weights with {name}={trained!r}, and they mean nothing "
                f"with {name}={wanted[name]!r}. Train it with this argument"
            )
    shape = tuple(model.inputs[0].shape[1:])
    most = max(_FEW, _MOST_GROWTH * model.count_params())
    with at_most_weights(most, f"{info.architecture} with these arguments has more than {most:,} weights"):
        built = create(info.architecture, input_shape=shape, **arguments)
    copied = set(shared(model, built))
    missing = [layer.name for layer in built.layers if layer.weights and layer.name not in copied]
    if missing:
        raise UsageError(
            f"{info.architecture} with {', '.join(f'{key}={value!r}' for key, value in changes.items())} has "
            f"weights that the trained network lacks (layers {', '.join(missing[:4])}). Train it with these "
            "arguments; `kseg train --init-from` starts from what they share"
        )
    transfer(model, built)
    spec = getattr(model, "spec", None)
    if spec is not None:
        spec, merged = original_spec(spec), unions(info.architecture, built.info.arch_args)
        if merged is not None:
            spec = merged_spec(spec, *merged)
        built.spec = spec.replace(arch_args=dict(built.info.arch_args))
    return built
