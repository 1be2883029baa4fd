"""Save and load a network together with its Spec: Keras' `.keras` file plus one member, `kseg.json`.

The file is an inference model: no optimizer, no loss. Every member is JSON or HDF5, nothing is
unpickled, and Keras' safe mode stays on, so a file from a stranger cannot run code.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import kseg
from kseg import files
from kseg.errors import ArtefactError, UsageError, first_line
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
SPEC_MEMBER = "kseg.json"
_KERAS_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
# Height and width on which a network of any size is tried: multiples of every usual stride, not equal.
_PROBE = (64, 128)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError)


def save(model: keras.Model, path: str | os.PathLike[str], spec: Spec | None = None) -> Spec:
    """Write `model` and its Spec to a `.keras` file, whole or not at all.

    Args:
        model: a functional (or Sequential) network. If it is compiled, optimizer and loss are left out.
        path: where to write; must end in `.keras`.
        spec: the Spec of the data it was trained on. Default: `model.spec`, which `load` sets.
            Architecture, its arguments and kseg's version are filled in from `model.info`.

    Returns:
        The Spec as written.

    Raises:
        UsageError: if no Spec is known, if it does not fit the network's outputs, if the path has
            another suffix, if the network is not functional, or gives no logits at its input's size.

    Warns:
        UserWarning: if a network that is not kseg's ends in a softmax, has several inputs or outputs, or
            cannot be tried: it is written, but will not be run as it should.
        OSError: from the file system; whatever stood at `path` is then untouched.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise UsageError(f"Argument `path` must end in '{SUFFIX}'. Received: path='{target}'")
    spec = spec if spec is not None else getattr(model, "spec", None)
    if spec is None:
        raise UsageError(
            "kseg.save needs to know the classes: pass spec=train.spec (from kseg.data), "
            'or spec=kseg.Spec(classes=("background", ...)). Received: spec=None'
        )
    network = _inference_network(model)
    written = _completed(spec, model)
    if spec.task == "semantic" and not written.architecture:
        _check_foreign(network)
    stride = getattr(getattr(model, "info", None), "stride", 1)
    member = {**written.to_dict(), "stride": int(stride)}
    with files.atomic(target) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(SPEC_MEMBER, json.dumps(member, ensure_ascii=False, indent=1))
    return written


def _completed(spec: Spec, model: keras.Model) -> Spec:
    """Fill in what the model knows; refuse a Spec that is another network's."""
    channels = {int(tensor.shape[-1]) for tensor in model.outputs if len(tensor.shape) == 4}
    if spec.task == "semantic" and channels and channels != {spec.num_classes}:
        raise UsageError(
            f"The spec has {spec.num_classes} classes, but the network gives "
            f"{' and '.join(map(str, sorted(channels)))} logits per pixel. Build the network with "
            f"num_classes={spec.num_classes}, or pass the spec of its own data"
        )
    spec = spec.replace(kseg_version=kseg.__version__)
    info = getattr(model, "info", None)
    if info is not None:
        spec = spec.replace(architecture=info.architecture, arch_args=dict(info.arch_args))
    try:
        return Spec.from_json(spec.to_json())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The spec holds a value that JSON cannot: {error}. Use numbers, text and lists"
        ) from error


def _inference_network(model: keras.Model) -> keras.Model:
    """A view on the same layers and variables that knows no optimizer, loss or train step."""
    import keras

    try:
        return keras.Model(model.input, model.output, name=model.name)
    except (AttributeError, ValueError) as error:
        raise UsageError(
            f"kseg.save writes functional models, and '{model.name}' ({type(model).__name__}) has no "
            "graph from inputs to outputs. Build it as keras.Model(inputs, outputs)"
        ) from error


def _check_foreign(network: keras.Model) -> None:
    """Try a network that kseg did not make on one image: does it give logits at the image's size?"""
    from keras import ops

    if len(network.inputs) != 1 or len(network.outputs) != 1:
        warnings.warn(
            f"'{network.name}' has {len(network.inputs)} inputs and {len(network.outputs)} outputs: it is "
            "saved whole, but Predictor and export take one image and one map of logits. Save "
            "keras.Model(image, logits) for them",
            stacklevel=3,
        )
        return
    shape = tuple(network.inputs[0].shape)
    rank = len(network.outputs[0].shape)
    if len(shape) != 4 or rank != 4:
        raise UsageError(
            "kseg.save writes networks that turn images (B, H, W, C) into logits (B, H, W, classes). "
            f"Received: '{network.name}' from {shape} to {tuple(network.outputs[0].shape)}"
        )
    size = tuple(side or probe for side, probe in zip(shape[1:3], _PROBE, strict=True))
    image = np.random.default_rng(0).standard_normal((1, *size, shape[3] or 3)).astype("float32")
    try:
        logits = np.asarray(ops.convert_to_numpy(network(image, training=False)), np.float32)
    except Exception as error:  # its layers and the backend may raise anything
        warnings.warn(
            f"'{network.name}' could not be tried on an image of {size[0]}x{size[1]}: {first_line(error)}",
            stacklevel=3,
        )
        return
    if logits.shape[1:3] != size:
        raise UsageError(
            f"'{network.name}' gives {logits.shape[1]}x{logits.shape[2]} for an image of {size[0]}x{size[1]}"
            ", and kseg needs logits at the image's size. End it in kseg.layers.BilinearUpsampling(factor), "
            "or ResizeLike()([logits, image])"
        )
    if logits.min() >= 0 and np.abs(logits.sum(-1) - 1).max() < 1e-2:
        warnings.warn(
            f"'{network.name}' gives probabilities: kseg takes logits, and what averages or refines them "
            "takes the softmax itself. Leave out the last activation; the weights stay as they are",
            stacklevel=3,
        )


def _open(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    """Open a `.keras` file and make sure that every member we need is there."""
    file = Path(path)
    if not file.is_file():
        raise ArtefactError(
            f"'{file}' {'is a folder' if file.is_dir() else 'does not exist'}; expected a file"
        )
    if file.stat().st_size == 0:
        raise ArtefactError(f"'{file}' is empty (0 bytes): the copy or download failed. Get it again")
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise ArtefactError(
            f"'{file}' is not a whole {SUFFIX} file: it lacks the zip directory at its end "
            "(truncated, or another format renamed)"
        ) from error
    present = set(archive.namelist())
    missing = [name for name in (*_KERAS_MEMBERS, SPEC_MEMBER) if name not in present]
    if not missing:
        return archive
    archive.close()
    if missing == [SPEC_MEMBER]:
        raise ArtefactError(
            f"'{file}' is a Keras model without a kseg spec: it lacks the member {SPEC_MEMBER}. "
            "Load it with keras.models.load_model, then kseg.save(model, path, spec=...)"
        )
    raise ArtefactError(f"'{file}' is not a {SUFFIX} file of kseg: it lacks {', '.join(missing)}")


def _read_member(path: str | os.PathLike[str]) -> dict[str, Any]:
    with _open(path) as archive:
        try:
            values = json.loads(archive.read(SPEC_MEMBER).decode("utf-8"))
        except (*_DAMAGE, json.JSONDecodeError) as error:
            raise ArtefactError(
                f"'{path}' is damaged: its member {SPEC_MEMBER} is unreadable ({error})"
            ) from error
    if not isinstance(values, dict):
        raise ArtefactError(f"'{path}' is damaged: its member {SPEC_MEMBER} holds no object")
    return values


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """Return the Spec inside a `.keras` file; needs neither Keras nor TensorFlow.

    Raises:
        ArtefactError: if the file is missing, damaged, or was not written by `kseg.save`.
    """
    values = _read_member(path)
    _check_members(path)
    return Spec.from_dict(values)


def load(path: str | os.PathLike[str]) -> keras.Model:
    """Load a network written by `save`, on any Keras backend, with `.spec` and `.info` set.

    The network is not compiled; weights are bit-equal to those saved.

    Raises:
        ArtefactError: if the file is missing, truncated, damaged, not ours, or needs a layer that
            is not registered with Keras.
    """
    values = _read_member(path)
    spec = Spec.from_dict(values)
    _check_members(path)
    import keras

    # Importing these rooms registers every layer that a file may name.
    import kseg.layers
    import kseg.losses  # noqa: F401
    from kseg.models import ModelInfo
    from kseg.models.registry import from_file

    if Path(path).suffix != SUFFIX:
        raise ArtefactError(
            f"'{path}' holds a Keras model but its name does not end in '{SUFFIX}'. Rename it"
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError) as error:
        raise ArtefactError(
            f"'{path}' cannot be rebuilt by Keras {keras.__version__}: {first_line(error)}"
        ) from error
    model.spec = spec.replace(arch_args=from_file(spec.architecture, spec.arch_args))
    model.info = ModelInfo(spec.architecture, model.spec.arch_args, int(values.get("stride", 1)))
    return model


def _check_members(path: str | os.PathLike[str]) -> None:
    """Compare every member with its checksum, so that a flipped bit is an error and not a bad mask."""
    with _open(path) as archive:
        try:
            bad = archive.testzip()
        except _DAMAGE as error:
            raise ArtefactError(f"'{path}' is damaged: {error}. Copy it again") from error
    if bad is not None:
        raise ArtefactError(f"'{path}' is damaged: its member {bad} fails the checksum. Copy it again")
