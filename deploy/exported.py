"""What `spec.export` says, checked once for all who read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec

from kseg import records, tasks
from kseg.spec import Spec
from kseg.text import printable

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Verified(records.Record, frozen=True):
    """The outcome of `verify`, as far as it is shown."""

    status: records.Text | None = None
    note: records.Text | None = None
    images: records.Count | None = None
    source: records.Text | None = None
    split: records.Text | None = None
    metric: records.Text | None = None
    value: _Share | None = None
    reference: _Share | None = None
    budget: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    drop: Annotated[float, msgspec.Meta(ge=-100, le=100)] | None = None
    agreement: _Share | None = None


class Engine(records.Record, frozen=True):
    """Who built an engine, and what a machine needs to run it."""

    library: records.Text
    version: records.Text
    runs_on: records.Text
    needs: records.Text


class Exported(records.Record, frozen=True):
    """What an export wrote about itself; a `.keras` file has none of it."""

    format: records.Text | None = None
    precision: records.Text | None = None
    verify: Verified = Verified()
    engine: Engine | None = None


def exported(spec: Spec, path: str | os.PathLike[str]) -> Exported:
    """Return the record in the spec of the file at `path`.

    Raises:
        ArtefactError: if it holds something else: names file and field.
    """
    found = dict(spec.export)
    if isinstance(verify := found.get("verify"), Mapping):
        # Files of 0.1 have the figures under the metric's name only.
        metric = tasks.find(spec.task).headline
        named = {"value": verify.get(metric), "reference": verify.get(f"{metric}_reference")}
        found["verify"] = {**named, **verify}
    return records.convert(found, Exported, where=f"'{printable(path)}', `export` of the spec")
