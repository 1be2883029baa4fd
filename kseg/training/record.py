"""What a run writes about itself: `run.json` and `history.csv`, versions and the machine."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import msgspec

from kseg import files, records
from kseg.data.sources.source import source_label
from kseg.errors import UsageError
from kseg.machine import host
from kseg.spec import Normalization
from kseg.text import printable
from kseg.training.config import PLACES, TrainConfig
from kseg.version import __version__

FILE = "run.json"
HISTORY = "history.csv"
MODEL = "model.keras"
_PACKAGES = ("numpy", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch")


def versions() -> dict[str, str]:
    """Return the versions of kseg, Python and the packages that compute."""
    found = {"kseg": __version__, "python": platform.python_version(), "backend": keras.backend.backend()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return processor, usable cores, system and accelerators."""
    devices = [device for device in keras.distribution.list_devices() if not device.startswith("cpu")]
    return {
        "processor": host.processor(),
        "cores": host.cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "accelerators": devices,
    }


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Resolved(records.Record, frozen=True):
    """What the run settled, as far as a resumed one keeps to it."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    precision_reason: records.Text
    architecture: records.Text | None = None
    arguments: dict[str, Any] | None = None
    normalization: Normalization | None = None
    # Records of 0.1 have none of these.
    jit_compile: bool | Literal["auto"] = False
    jit_reason: records.Text = ""
    encoder_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    batch_size: records.Count | None = None
    batch_reason: records.Text = ""


class Data(records.Record, frozen=True):
    """What the run was trained on."""

    fingerprint: records.Text
    splits: dict[str, records.Count]


class Result(records.Record, frozen=True):
    """How the run ended, as far as a line is printed about it."""

    model: str
    epochs: records.Count
    best_epoch: records.Count
    seconds: float
    images_per_second: float


class Run(records.Record, frozen=True):
    """`run.json`; `read` checks it. A run folder that is only looked at may have `arguments` alone."""

    arguments: dict[str, Any]
    status: Literal["running", "interrupted", "diverged", "out of memory", "finished"] = "running"
    started: records.Text | None = None
    resumed: tuple[records.Text, ...] = ()
    resolved: Resolved | None = None
    data: Data | None = None
    result: Result | None = None
    versions: dict[str, str | None] | None = None


def public_arguments(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of a run as they may leave this machine: names instead of local paths."""
    arguments = {key: value for key, value in config.to_dict().items() if key not in PLACES}
    arguments["data"] = source_label(config.data)
    for name in ("weights", "init_from"):
        if arguments[name] is not None:
            arguments[name] = Path(arguments[name]).name
    return arguments


def read(run: Path, *, to_resume: bool = False) -> dict[str, Any] | None:
    """Return `run.json`, or None when there is none.

    Args:
        run: the run folder.
        to_resume: whether everything must be there that a resumed run keeps.

    Raises:
        UsageError: if it is not a record of `kseg train`: names the field.
    """
    path = run / FILE
    if not path.exists():
        return None
    values = records.read(path, dict[str, Any], error=UsageError, remedy="This is no run folder of kseg")
    where = f"'{printable(path)}'"
    checked = records.convert(values, Run, where=where, error=UsageError, remedy="Give another --out")
    needed = ["status", "started", "resolved", "data"] + ["result"] * (checked.status == "finished")
    missing = [name for name in needed if values.get(name) is None]
    if to_resume and missing:
        raise UsageError(f"{where} has no `{missing[0]}`: this run cannot be resumed. Give another --out")
    return values


def write(run: Path, values: dict[str, Any]) -> None:
    """Write `run.json` atomically."""
    files.write_json(run / FILE, values)


def write_history(run: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.csv`, a row for each epoch, atomically; what a row lacks stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(run / HISTORY, text.getvalue())
