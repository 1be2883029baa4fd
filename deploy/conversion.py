"""From a Keras model to the float graph of a format, on the TensorFlow backend whatever trained it.

TFLite and ONNX conversion trace a TensorFlow function. Where this process runs Keras on another
backend, the model is saved and this module is run as a program on the TensorFlow backend.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy import formats
from deploy.quiet import quiet
from kseg.errors import ArtefactError, UsageError
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

# Loops of the graph are written out: calibration reads every tensor, and a loop that did not run has none.
# Suppression settles in 3 to 5 steps on 300 boxes.
LOOP_STEPS = 16
_REDUCED = ("bfloat16", "float16")
_FLOAT32_POLICY = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the float graph must be.

    Args:
        format: name of the format.
        precision: the precision asked for; an exporter that lowers it later converts in float32.
        size: `(height, width)` of the input.
        outputs: names of the outputs.
        dynamic: None or `"batch"`.
        seed: seed of the probe image.
        keep_float: for int8: a regular expression; operators whose name it is found in stay in float.
    """

    format: str
    precision: str
    size: tuple[int, int]
    outputs: tuple[str, ...]
    dynamic: str | None = None
    seed: int = 0
    keep_float: str | None = None


@dataclass(frozen=True)
class Probe:
    """One random normalised image `(1, H, W, 3)` and Keras' float32 outputs for it, by name."""

    image: np.ndarray
    outputs: dict[str, np.ndarray]


def named_outputs(model: keras.Model, image: Any, names: Sequence[str]) -> dict[str, Any]:
    """Run a network; return its outputs by name. A network with one output need not name it."""
    found = model(image, training=False)
    return {name: found[name] for name in names} if isinstance(found, dict) else {names[0]: found}


def _is_reduced(value: Any) -> bool:
    return isinstance(value, str) and value.removeprefix("mixed_") in _REDUCED


def _in_float32(config: Any) -> Any:
    """Return a model's config with every reduced-precision policy replaced by float32."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(entry) for entry in config)
    if not isinstance(config, dict):
        return config
    if "DTypePolicy" in str(config.get("class_name")):
        return dict(_FLOAT32_POLICY)
    return {
        key: "float32" if key == "dtype" and _is_reduced(value) else _in_float32(value)
        for key, value in config.items()
    }


def float32_twin(model: keras.Model) -> keras.Model:
    """Return the same network computing in float32 throughout, with the same weights.

    A network trained under `mixed_bfloat16` or `mixed_float16` carries casts that TFLite and ONNX
    either refuse or keep for ever; the twin is rebuilt from the config with float32 policies.

    Args:
        model: a functional model. Returned as it is when nothing in it is reduced.
    """
    policies = {str(layer.dtype_policy.name) for layer in model._flatten_layers(include_self=False)}
    if not any(_is_reduced(policy) for policy in policies):
        return model
    twin = type(model).from_config(_in_float32(model.get_config()))
    shapes = [tuple(variable.shape) for variable in model.weights]
    if shapes != [tuple(variable.shape) for variable in twin.weights]:
        raise ArtefactError(
            "The float32 twin of this model has other weights than the model: cannot convert it."
        )
    twin.set_weights([np.asarray(weight, np.float32) for weight in model.get_weights()])
    return twin


def backend() -> str:
    """Return the backend that Keras runs on in this process, or would run on."""
    import keras

    return str(keras.backend.backend())


def _convert_here(model: keras.Model, path: Path, request: Request) -> Probe:
    import tensorflow as tf

    from kseg.layers.protocols import unrolled

    exporter = formats.by_name(request.format).load("exporter")
    twin = float32_twin(model)
    image = np.random.default_rng(request.seed).standard_normal((1, *request.size, 3)).astype(np.float32)
    run = tf.function(lambda x: named_outputs(twin, x, request.outputs))
    outputs = {name: np.asarray(value, np.float32) for name, value in run(tf.constant(image)).items()}
    with unrolled(twin, LOOP_STEPS):
        exporter.convert(twin, path, request)
    return Probe(image, outputs)


def convert(model: keras.Model, spec: Spec, path: Path, request: Request) -> Probe:
    """Write the float graph of `model` to `path`.

    Args:
        model: the network, on any backend.
        spec: its spec (needed to hand the model to another process).
        path: where the raw artefact goes.
        request: see `Request`.

    Returns:
        A probe, for the parity check.

    Raises:
        ArtefactError: if the conversion on the TensorFlow backend fails in its own process.
    """
    named = isinstance(model.output, dict) and set(model.output) == set(request.outputs)
    if len(model.inputs) != 1 or not (named or (len(model.outputs) == 1 and len(request.outputs) == 1)):
        raise UsageError(
            f"Export takes a network with one input (an image) and the outputs {', '.join(request.outputs)}. "
            f"Received: {len(model.inputs)} inputs, {len(model.outputs)} outputs ({model.output_names})"
        )
    if backend() == "tensorflow":
        with quiet():
            return _convert_here(model, path, request)
    from kseg.saving import save

    with tempfile.TemporaryDirectory(prefix="kseg-convert-") as folder:
        source, probe = Path(folder) / "model.keras", Path(folder) / "probe.npz"
        save(model, source, spec)
        ran = subprocess.run(
            [sys.executable, "-m", "deploy.conversion", source, path, probe, json.dumps(asdict(request))],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ran.returncode:
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
            raise ArtefactError(f"Conversion on the TensorFlow backend failed: {last[0]}")
        with np.load(probe) as arrays:
            return Probe(arrays["image"], {name: arrays[f"output {name}"] for name in request.outputs})


def _main(arguments: list[str]) -> None:
    source, path, probe_path, values = arguments
    from kseg.saving import load

    given = json.loads(values)
    request = Request(**{**given, "size": tuple(given["size"]), "outputs": tuple(given["outputs"])})
    probe = _convert_here(load(source), Path(path), request)
    named: dict[str, Any] = {f"output {name}": value for name, value in probe.outputs.items()}
    np.savez(probe_path, image=probe.image, **named)


if __name__ == "__main__":
    _main(sys.argv[1:])
