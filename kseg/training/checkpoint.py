"""What `--resume` needs: one file with every number that the next epoch depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kseg import archives, files, records
from kseg.errors import ArtefactError
from kseg.text import printable

FILE = "checkpoint/state.npz"
_META = "meta"

# One epoch of the history: names of numbers. Those that go on to be used are checked by name.
Row = dict[str, float | int]
_NEEDED = ("epoch", "total_seconds", "images_per_second")


class Divergence(records.Record, frozen=True):
    """How far the loss is from its start (`kseg.training.divergence`)."""

    start: float | None
    value: float
    in_a_row: records.Count


class Meta(records.Record, frozen=True):
    """What a checkpoint says besides its arrays.

    Args:
        rows: the history, one row per finished epoch.
        best: the row of the best epoch.
        step: steps that the averaged weights have seen.
        divergence: None in checkpoints of 0.1.
    """

    rows: list[Row]
    best: Row | None
    step: records.Count
    divergence: Divergence | None = None

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if row.get("epoch") != number or not set(_NEEDED) <= set(row):
                raise ValueError(f"the row of epoch {number} lacks one of {', '.join(_NEEDED)}")
        if not self.rows or (self.best is not None and self.best not in self.rows):
            raise ValueError("the best epoch is none of the history")


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


def load(run: Path) -> tuple[Meta, dict[str, np.ndarray]] | None:
    """Return `(meta, arrays)` of the checkpoint in `run`, or None when no epoch was finished.

    Raises:
        ArtefactError: if the file is damaged, or holds something else than `save` writes.
    """
    path = run / FILE
    if not path.is_file():
        return None
    where = f"The checkpoint '{printable(path)}'"
    try:
        with archives.open_archive(
            path, where=where, alien="cannot be read: it is truncated, or no checkpoint"
        ) as archive:
            arrays = archives.read_arrays(archive, where=where)
        if _META not in arrays:
            raise ArtefactError(f"{where} is damaged: it lacks the member {_META}")
        text = arrays.pop(_META).tobytes()
        meta = records.parse(text, Meta, where=f"{where}, member {_META}", error=ArtefactError)
    except ArtefactError as error:
        raise ArtefactError(f"{error}. Start again with another run folder") from error
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
        shapes = [(tuple(value.shape), value.dtype) for value in stored]
        if shapes != [(tuple(variable.shape), _array(variable).dtype) for variable in variables]:
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
    names = [f"{part}/{i}" for i in range(sum(name.startswith(f"{part}/") for name in arrays))]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ArtefactError(
            f"The checkpoint is damaged: it lacks {missing[0]}. Start again with another --out"
        )
    return [arrays[name] for name in names]
