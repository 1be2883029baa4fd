"""Build an encoder on an image tensor and load its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from kseg.encoders.applications import base_model
from kseg.encoders.registry import ENCODERS, Encoder, resolve
from kseg.encoders.stack import Stack
from kseg.errors import ArtefactError, DataError, UsageError, did_you_mean
from kseg.keras_file import count_weights, load_network
from kseg.spec import Normalization

Weights = str | os.PathLike[str] | None


def normalization(name: str, weights: Weights = None) -> Normalization:
    """Return how images must be normalised for encoder `name` with these `weights`.

    Args:
        name: encoder name.
        weights: None (trained from nothing), `"imagenet"` or a path; a file is taken to hold weights that
            were trained as the published ones were.
    """
    encoder = ENCODERS[resolve(name)]
    return encoder.scratch if weights is None else encoder.pretrained


def build(
    name: str, x: Any, *, weights: Weights = None, width: float = 1.0, prefix: str = "", **options: Any
) -> dict[int, Any]:
    """Build encoder `name` on the image tensor `x`.

    Args:
        name: one of `names()`, without regard to case and separators.
        x: KerasTensor `(B, H, W, 3)`, normalised as `normalization(name, weights)` says. H and W may be
            unknown; they should be multiples of the deepest stride (`kseg.layers.PadToStride`).
        weights: None, `"imagenet"`, or a file: `.h5` or `.weights.h5` of the model in `keras.applications`
            (without its classifier) or of an encoder, or a `.keras` model that has this encoder's layers.
        width: factor on the channels (for MobileNetV3: Keras' `alpha`). The other networks of
            `keras.applications` have width 1 only.
        prefix: put before every layer name, for a network with two encoders of one kind.
        **options: what this encoder understands, for example `output_stride=16` for mobilenetv3.

    Returns:
        Features by stride in rising order, for example `{2: ..., 4: ..., 8: ..., 16: ..., 32: ...}`.

    Raises:
        UsageError: unknown name or option, or a width that this encoder does not have.
        DataError: the weights cannot be downloaded, or do not fit.
    """
    key = resolve(name)
    encoder = ENCODERS[key]
    _check(key, encoder, x, weights, width, options)
    stack = Stack(width=width, prefix=prefix, scratch=weights is None)
    features = encoder.make(stack, x, **encoder.fixed, **options)
    if weights is not None:
        _load(key, encoder, stack, weights, options)
    return dict(sorted(features.items()))


def _check(
    key: str, encoder: Encoder, x: Any, weights: Weights, width: float, options: dict[str, Any]
) -> None:
    for option in options:
        if option not in encoder.options:
            known = ", ".join(encoder.options) or "none"
            raise UsageError(
                f"Encoder {key} has no option {option!r}.{did_you_mean(option, list(encoder.options))} "
                f"It has: {known}"
            )
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not width > 0:
        raise UsageError(f"Encoder `width` must be a positive number. Received: width={width!r}")
    if width != 1 and encoder.width == "one":
        thin = ", ".join(name for name, entry in ENCODERS.items() if entry.width == "any")
        raise UsageError(
            f"Encoder {key} has one width, that of keras.applications. Received: width={width!r}. "
            f"These can be thinned: {thin}"
        )
    if len(x.shape) != 4 or x.shape[-1] != 3:
        raise UsageError(
            f"An encoder takes images (batch, height, width, 3). Received: a tensor of shape {x.shape}"
        )
    if weights == "imagenet" and not encoder.application:
        with_weights = ", ".join(name for name, entry in ENCODERS.items() if entry.application)
        raise UsageError(
            f"keras.applications has no ImageNet weights for encoder {key}. Give weights=None or a file, or "
            f"take one of: {with_weights}"
        )
    if width != 1 and weights == "imagenet" and not key.startswith("mobilenetv3"):
        raise UsageError(f"ImageNet weights of {key} fit width=1.0 only. Received: width={width!r}")


def _load(key: str, encoder: Encoder, stack: Stack, weights: Weights, options: dict[str, Any]) -> None:
    """Copy weights into the layers of `stack`, by layer name."""
    if weights == "imagenet":
        source = _pretrained(encoder, stack.width)
    else:
        path = Path(weights)  # type: ignore[arg-type]
        if not path.is_file():
            raise DataError(
                f"Weights of encoder {key} not found. Received: weights={str(weights)!r}, expected None, "
                "'imagenet' or an existing file"
            )
        source = _from_file(key, encoder, stack, path, options)
    given = {layer.name: layer for layer in source.layers}
    for name, layer in stack.layers.items():
        if not layer.weights:
            continue
        values = given[name].get_weights() if name in given else None
        if values is None or [v.shape for v in values] != [tuple(v.shape) for v in layer.weights]:
            found = "no such layer" if values is None else f"shapes {[v.shape for v in values]}"
            raise DataError(
                f"Weights {str(weights)!r} do not fit encoder {key}: layer {name!r} needs shapes "
                f"{[tuple(v.shape) for v in layer.weights]}. Received: {found}"
            )
        layer.set_weights(values)


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
