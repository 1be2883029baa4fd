"""What `--resume` needs: one file with every number that the next epoch depends on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg import files
from kseg.errors import ArtefactError

FILE = "checkpoint/state.npz"
_META = "meta"


def save(run: Path, model: keras.Model, average: Sequence[np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write the state of training atomically: the file is the old one or the new one, never half of it.

    Args:
        run: the run folder.
        model: compiled model; its weights, dropout seeds and optimiser state are stored.
        average: the averaged weights, possibly none.
        meta: JSON-ready values (epoch, history, best score).
    """
    arrays = {f"model/{i}": _array(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i}": _array(v) for i, v in enumerate(model.optimizer.variables)}
    arrays |= {f"average/{i}": value for i, value in enumerate(average)}
    text = json.dumps(meta, allow_nan=False).encode("utf-8")
    arrays[_META] = np.frombuffer(text, dtype=np.uint8)
    with files.atomic(run / FILE) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def load(run: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return `(meta, arrays)` of the checkpoint in `run`, or None when no epoch was finished.

    Raises:
        ArtefactError: if the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        meta = json.loads(arrays.pop(_META).tobytes().decode("utf-8"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtefactError(
            f"The checkpoint '{path}' cannot be read ({error}). Start again with another run folder."
        ) from error
    return meta, arrays


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Write the stored values into `model` and its optimiser; return the averaged weights.

    Raises:
        ArtefactError: if the checkpoint belongs to another network.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        stored = _numbered(arrays, part)
        shapes = [tuple(value.shape) for value in stored]
        if shapes != [tuple(variable.shape) for variable in variables]:
            raise ArtefactError(
                f"The checkpoint holds {len(stored)} {part} variables that do not fit the {len(variables)} "
                "of this network: another version of kseg or Keras wrote it. Start again with another --out."
            )
        for variable, value in zip(variables, stored, strict=True):
            variable.assign(value)
    return _numbered(arrays, "average")


def _array(variable: Any) -> np.ndarray:
    return ops.convert_to_numpy(variable)


def _numbered(arrays: Mapping[str, np.ndarray], part: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{part}/") for name in arrays)
    return [arrays[f"{part}/{i}"] for i in range(count)]
