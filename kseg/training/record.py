"""What a run writes about itself: `run.json`, versions and the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import keras

from kseg import __version__, files
from kseg.errors import UsageError
from kseg.machine import host

FILE = "run.json"
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


def read(run: Path) -> dict[str, Any] | None:
    """Return `run.json`, or None when there is none.

    Raises:
        UsageError: if it is not a record of `kseg train`.
    """
    path = run / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"'{path}' is not valid JSON ({error}): this is no run folder of kseg.") from error
    if not isinstance(values, dict) or "arguments" not in values:
        raise UsageError(f"'{path}' was not written by `kseg train`: it has no `arguments`.")
    return values


def write(run: Path, values: dict[str, Any]) -> None:
    """Write `run.json` atomically."""
    files.write_json(run / FILE, values)
