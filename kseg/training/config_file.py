"""The arguments of a run from a file: a config of one's own, or the `run.json` of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kseg import options, records
from kseg.errors import UsageError
from kseg.text import printable
from kseg.training.config import check_given, hints
from kseg.training.limits import Size

MOST_BYTES = 2**20
_REMEDY = "It must hold arguments of training by name, or be the run.json of a run"


def read_arguments(path: str | Path) -> dict[str, Any]:
    """Return the arguments of training that a YAML or JSON file holds; some may be left out.

    Of a `run.json` its `arguments` are taken, all but `resume`. A size may be written as on the command line:
    `360x480`, or `360` for a square.

    Args:
        path: the file; `.yaml` and `.yml` are YAML, everything else JSON.

    Raises:
        UsageError: naming file, argument, what was found and what was expected.
        MissingExtraError: if reading YAML is not installed.
    """
    values = records.read(path, dict[str, Any], error=UsageError, remedy=_REMEDY, max_bytes=MOST_BYTES)
    recorded = values.get("arguments")
    if isinstance(recorded, dict):
        values = {name: value for name, value in recorded.items() if name != "resume"}
    where = f"'{printable(path)}'"
    for name, value in values.items():
        written = isinstance(value, str | int) and not isinstance(value, bool)
        if hints().get(name) == Size | None and written:
            try:
                values[name] = list(options.size(str(value)))
            except UsageError as error:
                raise UsageError(f"{where}: argument `{name}`: {error}") from error
    check_given(values, where)
    return values
