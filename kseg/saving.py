"""Save and load a network together with its Spec: Keras' `.keras` file plus one member, `kseg.json`.

The file is an inference model: no optimizer, no loss. Every member is JSON or HDF5, nothing is
unpickled, and Keras' safe mode stays on, so a file from a stranger cannot run code.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kseg import files, keras_file, records, tasks
from kseg.errors import ArtefactError, UsageError
from kseg.keras_file import SUFFIX
from kseg.spec import Spec
from kseg.text import printable
from kseg.version import __version__

if TYPE_CHECKING:
    import keras

SPEC_MEMBER = "kseg.json"
_WITHOUT_SPEC = (
    f"is a Keras model without a kseg spec: it lacks the member {SPEC_MEMBER}. "
    "Load it with keras.models.load_model, then kseg.save(model, path, spec=...)"
)


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
    if not written.architecture:
        tasks.find(spec.task).part("check_foreign")(network)
    stride = getattr(getattr(model, "info", None), "stride", 1)
    member = {**written.to_dict(), "stride": int(stride)}
    with files.atomic(target) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(SPEC_MEMBER, json.dumps(member, ensure_ascii=False, indent=1))
    return written


def _completed(spec: Spec, model: keras.Model) -> Spec:
    """Fill in what the model knows; refuse a Spec that is another network's."""
    other = _other_channels(model, spec)
    if other:
        raise UsageError(
            f"The spec has {spec.num_classes} classes, but the network gives {other} logits per pixel. Build "
            f"the network with num_classes={spec.num_classes}, or pass the spec of its own data"
        )
    spec = spec.replace(kseg_version=__version__)
    info = getattr(model, "info", None)
    if info is not None:
        spec = spec.replace(architecture=info.architecture, arch_args=dict(info.arch_args))
    try:
        return Spec.from_json(spec.to_json())
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The spec holds a value that JSON cannot: {error}. Use numbers, text and lists"
        ) from error


def _other_channels(model: keras.Model, spec: Spec) -> str:
    """Return the sizes of the outputs' last axes, if they are not those of the spec's task; else nothing."""
    shapes = tasks.find(spec.task).part("outputs")(spec, (0, 0)).values()
    wanted = {shape[-1] for shape in shapes if len(shape) == 3}
    channels = {tensor.shape[-1] for tensor in model.outputs if len(tensor.shape) == 4}
    if not channels or tasks.ANY in wanted or channels <= wanted:
        return ""
    return " and ".join(sorted(map(str, channels)))


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


class _Member(records.Record, frozen=True):
    """What `kseg.json` holds besides the fields of the Spec."""

    stride: Annotated[int, msgspec.Meta(ge=1, le=2**16)] = 1


def _read_member(path: str | os.PathLike[str]) -> dict[str, Any]:
    return keras_file.read_member(path, SPEC_MEMBER, dict[str, Any], without=_WITHOUT_SPEC)


def _spec(path: str | os.PathLike[str], values: dict[str, Any]) -> Spec:
    return Spec.from_dict(values, where=_where(path))


def _where(path: str | os.PathLike[str]) -> str:
    return f"'{printable(path)}', member {SPEC_MEMBER}"


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """Return the Spec inside a `.keras` file; needs neither Keras nor TensorFlow.

    Raises:
        ArtefactError: if the file is missing, damaged, or was not written by `kseg.save`.
    """
    return _spec(path, _read_member(path))


def load(path: str | os.PathLike[str]) -> keras.Model:
    """Load a network written by `save`, on any Keras backend, with `.spec` and `.info` set.

    The network is not compiled; weights are bit-equal to those saved.

    Raises:
        ArtefactError: if the file is missing, truncated, damaged, not ours, unpacks to or describes more than
            it can hold, or needs a layer that is not registered with Keras.
    """
    values = _read_member(path)
    spec = _spec(path, values)
    member = records.convert(values, _Member, where=_where(path))

    # Importing these rooms registers every layer that a file may name.
    import kseg.layers
    import kseg.losses  # noqa: F401
    from kseg.models import ModelInfo
    from kseg.models.registry import from_file

    model = keras_file.load_network(path)
    other = _other_channels(model, spec)
    if other:
        raise ArtefactError(
            f"{_where(path)}: the spec has {spec.num_classes} classes, but the network gives {other} logits "
            "per pixel"
        )
    model.spec = spec.replace(arch_args=from_file(spec.architecture, spec.arch_args))
    model.info = ModelInfo(spec.architecture, model.spec.arch_args, member.stride)
    return model
