"""What a run takes over from the weights it starts from, and what layers learn before its first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg import encoders, saving
from kseg.errors import UsageError
from kseg.layers.protocols import adapting
from kseg.models.registry import Entry, describe, from_file, learned, named
from kseg.models.transfer import transfer
from kseg.progress import Say
from kseg.spec import Normalization
from kseg.training.config import ENCODER_RATE, TrainConfig

ADAPT_IMAGES = 64
# Arguments of a network that undoes the normalisation itself, which is told which one it is.
TOLD = ("std", "normalization")


def settle_normalization(
    entry: Entry, arguments: Mapping[str, Any], config: TrainConfig, before: Mapping[str, Any] | None
) -> Normalization:
    """Return the normalisation of the images of a run.

    That of the network to start from (`init_from`), of pretrained weights, or what the network was told with
    an argument `normalization`; otherwise 0-255 goes to [-1, 1].

    Args:
        entry: the architecture.
        arguments: of the network.
        config: of the run.
        before: `run.json` of the run to resume, whose file to start from may be gone.

    Raises:
        UsageError: if the network to start from and the weights or the argument want different ones.
        ArtefactError: if the file to start from is not one of kseg's.
    """
    if before is not None and "normalization" in before["resolved"]:
        return Normalization(**before["resolved"]["normalization"])
    own = arguments.get("normalization")
    wanted = _of_encoder(entry, arguments, config.weights) if own is None else Normalization.of(own)
    if config.init_from is None:
        return wanted
    learned = saving.read_spec(config.init_from).normalization
    if learned != wanted and (own is not None or config.weights is not None):
        asking = "--weights" if own is None else "the argument `normalization`"
        raise UsageError(
            f"The network in '{config.init_from}' was trained on images normalised with {_text(learned)}, "
            f"and {asking} wants {_text(wanted)}. Leave one of the two out"
        )
    return learned


def settle_versions(
    name: str, arguments: dict[str, Any], config: TrainConfig, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments with those written out whose default has changed since files were written.

    A resumed run keeps its own, and the network to start from (`init_from`), where it is of the same
    architecture, gives its own to what the caller left open.

    Args:
        name: registered name of the architecture.
        arguments: of the network, as given.
        config: of the run.
        before: `run.json` of the run to resume.

    Raises:
        ArtefactError: if the file to start from is not one of kseg's.
    """
    if before is not None:
        return {**arguments, **from_file(name, before["resolved"]["arguments"])}
    inherited: dict[str, Any] = {}
    if config.init_from is not None:
        held_by = saving.read_spec(config.init_from)
        if held_by.architecture == name:
            held = from_file(name, held_by.arch_args)
            inherited = {key: held[key] for key in describe(name).before}
    return named(name, {**inherited, **arguments})


def tell_network(entry: Entry, arguments: dict[str, Any], normalization: Normalization) -> None:
    """Tell a network that undoes the normalisation which one it is, unless it knows; changes `arguments`."""
    if normalization == Normalization():
        return
    values = (list(normalization.std), dataclasses.asdict(normalization))
    for name, value in zip(TOLD, values, strict=True):
        if name in entry.parameters and arguments.get(name) is None:
            arguments[name] = value


def begin(network: keras.Model, path: str | None, batches: Any, say: Say) -> None:
    """Give a network what it knows before its first step: weights from a file, then what its layers learn.

    Args:
        network: changed in place.
        path: `.keras` file whose weights it takes over; None: none.
        batches: training batches, which the layers that adapt look at.
        say: prints one line.

    Raises:
        ArtefactError: if the file is not one of kseg's.
        UsageError: if the two networks share no layer.
    """
    copied = init_from(network, path, say) if path else []
    adapt(network, batches, say, known=copied)


def init_from(model: keras.Model, path: str, say: Say) -> list[str]:
    """Copy the weights of the layers that `model` shares with the network in a `.keras` file.

    Returns:
        Names of the layers that were copied.

    Raises:
        ArtefactError: if the file is not one of kseg's.
        UsageError: if the two share no layer.
    """
    source = saving.load(path)
    copied = transfer(source, model)
    here = learned(model.info.architecture, model.info.arch_args)
    for name, value in learned(source.info.architecture, source.info.arch_args).items():
        if here.get(name, value) != value:
            say(f"{path} has learned its weights with {name}={value!r}, and this network has {here[name]!r}")
    weighted = [layer.name for layer in model.layers if layer.weights]
    new = [name for name in weighted if name not in copied]
    say(f"weights of {len(copied)} of {len(weighted)} layers from {path}; new: {', '.join(new) or 'none'}")
    return copied


def adapt(
    model: keras.Model,
    batches: Any,
    say: Say,
    images: int = ADAPT_IMAGES,
    known: Collection[str] = (),
) -> None:
    """Let the layers that learn from data (`kseg.layers.protocols.Adapts`) see their inputs on images.

    In the order of the graph, as a later layer sees what the earlier one makes of the data.

    Args:
        model: the network; changed in place.
        batches: gives `(images, ...)`.
        images: about how many images are shown.
        known: names of layers that have learned already.
    """
    layers = [layer for layer in adapting(model) if layer.name not in known]
    if not layers:
        return
    shown: list[Any] = []
    for index in range(len(batches)):
        shown.append(batches[index][0])
        if sum(len(batch) for batch in shown) >= images:
            break
    for layer in layers:
        below = keras.Model(model.input, layer.input)
        values = [ops.convert_to_numpy(below(batch, training=False)) for batch in shown]
        layer.adapt(np.concatenate(values))
        say(f"{layer.name}: adapted to {sum(len(batch) for batch in shown)} training images")


def settle_encoder_rate(
    entry: Entry, arguments: Mapping[str, Any], config: TrainConfig, before: Mapping[str, Any] | None
) -> float:
    """Return the factor on the learning rate of the layers that start with pretrained weights.

    What they have learned from far more images than a run has should be tuned, not learned anew. 1, that is
    the rate of all others, when the caller gives factors or the encoder starts from nothing.

    Args:
        entry: the architecture.
        arguments: of the network.
        config: of the run.
        before: `run.json` of the run to resume, which keeps the factor that it was started with.
    """
    if before is not None:
        # Runs of before there was a factor.
        return float(before["resolved"].get("encoder_rate", 1.0))
    starts_pretrained = config.weights is not None and _encoder(entry, arguments) is not None
    return ENCODER_RATE if starts_pretrained and not config.lr_multipliers else 1.0


def _of_encoder(entry: Entry, arguments: Mapping[str, Any], weights: str | None) -> Normalization:
    encoder = _encoder(entry, arguments)
    return Normalization() if encoder is None else encoders.normalization(encoder, weights)


def _encoder(entry: Entry, arguments: Mapping[str, Any]) -> str | None:
    """Return the encoder of `kseg.encoders` that the network is over, None if it has its own."""
    given = arguments.get("encoder", entry.default_encoder)
    try:
        return encoders.resolve(given) if given else None
    except UsageError:
        # The model's own name for its own encoder (U-Net's "plain"); the model refuses what nobody knows.
        return None


def _text(normalization: Normalization) -> str:
    return f"{normalization.order} mean {normalization.mean} std {normalization.std}"
