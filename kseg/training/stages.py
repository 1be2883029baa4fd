"""Training in stages: each begins with what the one before has learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kseg import files, records
from kseg.errors import DataError, UsageError
from kseg.progress import Say, to_stderr
from kseg.text import printable
from kseg.training.config import TrainConfig
from kseg.training.trainer import train


def train_stages(stages: Sequence[TrainConfig], say: Say | None = None) -> list[dict[str, Any]]:
    """Train one stage after the other; each starts from the best model of the one before.

    FCN-32s, then 16s, then 8s; DeconvNet on object crops, then on proposals; Farabet's features with a linear
    classifier, then its two-layer one over frozen features. Stages of which `init_from` is given keep it.

    Args:
        stages: the runs, each with an `out` of its own. With `resume=True` finished stages are passed over
            and an interrupted one goes on.
        say: prints one line; None: to stderr.

    Returns:
        The result of each stage, as `train` gives it.

    Raises:
        UsageError: if there is no stage, or two write to one folder.

    Example:
        >>> coarse = TrainConfig(model="fcn32s", data="DIR", out="runs/32s")
        >>> train_stages([coarse, dataclasses.replace(coarse, model="fcn16s", out="runs/16s")])
    """
    if not stages:
        raise UsageError("Argument `stages` must hold at least one TrainConfig. Received: none")
    folders = [files.resolved(stage.out) for stage in stages]
    if len(set(folders)) < len(folders):
        raise UsageError(
            f"Each stage needs a run folder of its own. Received: {', '.join(stage.out for stage in stages)}"
        )
    results: list[dict[str, Any]] = []
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            (say or to_stderr)(f"stage {number} of {len(stages)}: {stage.model} in {stage.out}")
        if results and stage.init_from is None:
            stage = dataclasses.replace(stage, init_from=results[-1]["model"])
        results.append(train(stage, say))
    return results


def read_stages(path: str, common: Mapping[str, Any]) -> list[TrainConfig]:
    """Return the stages that a JSON file lists: each an object of `TrainConfig` arguments.

    Args:
        path: file with a list of objects; each needs a `"name"`, which becomes its folder under `out`.
        common: arguments of every stage, `out` among them; a stage's own ones win.

    Raises:
        DataError: if the file cannot be read or is not such a list.
        UsageError: for an unknown argument or a value out of range.
    """
    remedy = (
        'It must hold a JSON list of stages, each an object with a "name" and arguments of training, for '
        'example [{"name": "32s", "model": "fcn32s"}, {"name": "16s", "model": "fcn16s"}]'
    )
    listed = records.read(path, list[dict[str, Any]], remedy=remedy)
    if not listed:
        raise DataError(f"'{printable(path)}' lists no stage. {remedy}")
    for stage in listed:
        # A name becomes a folder below RUN, and must not lead out of it.
        name = stage.get("name")
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
            raise DataError(
                f"'{printable(path)}': `name` must be the name of a folder. Received: "
                f"{printable(repr(name), 60)}. {remedy}"
            )
    stages = []
    for stage in listed:
        own = {key: value for key, value in stage.items() if key != "name"}
        out = str(Path(common["out"]) / stage["name"])
        missing = [key for key in ("model", "data") if key not in {**common, **own}]
        where = f"Stage '{printable(stage['name'], 60)}' in '{printable(path)}'"
        if missing:
            raise UsageError(f"{where} has no `{missing[0]}`, nor the command line")
        stages.append(TrainConfig.from_dict({**common, **own, "out": out}, where=where))
    return stages
