"""`kseg train`: the arguments of `kseg.training.TrainConfig` as options, made from their declarations."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kseg import parsers
from kseg.errors import UsageError
from kseg.options import Option
from kseg.training.config import AUTO, DEFAULTS, OPTIONS, TrainConfig, hints
from kseg.training.limits import Size

HELP = "train a model on a folder, a TFDS set or the embedded sample"
EXAMPLE = "kseg train --model fcn8s --encoder mobilenetv3 --data DIR --epochs 60 --out runs/first"

_NEEDED = ("out", "model", "data")


def _count_or_auto(text: str) -> int | str:
    return AUTO if text.strip().lower() == AUTO else parsers.whole(1)(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; none has a default here, so that only those given are compared on resume."""
    run = parser.add_argument_group("run")
    _add_config(run)
    _add(
        run,
        "--stages",
        metavar="FILE",
        help="list of stages, JSON or YAML, trained one after the other: {name: ..., arguments of training}",
    )
    _declare(run, "run")
    _add_headings(parser)


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of data, model, fitting and augmentation, and the file that may give them."""
    _add_config(parser.add_argument_group("run"))
    _add_headings(parser)


def _add_headings(parser: argparse.ArgumentParser) -> None:
    for heading in dict.fromkeys(option.group for option in OPTIONS.values()):
        if heading != "run":
            _declare(parser.add_argument_group(heading), heading)


def _add_config(group: Any) -> None:
    text = "arguments of training, YAML or JSON, such as an earlier run's run.json; options given here win"
    _add(group, "--config", metavar="FILE", help=text)


def _declare(group: Any, heading: str) -> None:
    """Add the options of one heading."""
    for name, option in OPTIONS.items():
        if option.group != heading:
            continue
        if hints()[name] in (bool, bool | None):
            _declare_flag(group, name, option)
        elif option.parts:
            for part, own in option.parts.items():
                reader = parsers.scale_range if part == "scale" else float
                _add(group, _spelled(part), type=reader, metavar=own.metavar, help=_help(part, own))
        else:
            takes = {"choices": tuple(option.choices)} if option.choices else {"metavar": option.metavar}
            several = {"action": "append"} if isinstance(DEFAULTS[name], tuple) else {"type": _reader(name)}
            _add(group, _spelled(name), help=_help(name, option), **takes, **several)


def _declare_flag(group: Any, name: str, option: Option) -> None:
    """Add `--name`, and `--no-name` for what is not off by default."""
    if DEFAULTS[name] is not False:
        group = group.add_mutually_exclusive_group()
        no = f"--no-{name.replace('_', '-')}"
        _add(group, no, action="store_false", dest=name, help=f"not --{name}")
    _add(group, _spelled(name), action="store_true", help=_help(name, option))


def _reader(name: str) -> Callable[[str], Any]:
    """Return what reads the value of an argument, by its type; `TrainConfig` knows its whole range."""
    hint, bounds = hints()[name], OPTIONS[name].bounds
    if bounds is not None:
        if str in typing.get_args(hint):
            return _count_or_auto
        return parsers.whole(int(bounds.least)) if bounds.whole else float
    if hint == Size | None:
        return parsers.size
    return parsers.mapping if DEFAULTS[name] == {} else str


def _help(name: str, option: Option) -> str:
    """Return the text of an option: arguments by their options, and the default where one is a value."""
    text = option.text
    for other in OPTIONS:
        text = text.replace(f"`{other}`", _spelled(other))
    default = DEFAULTS.get(name)
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        text += f" (default: {default})"
    return text.replace("%", "%%")


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _add(group: Any, *names: str, **options: Any) -> None:
    group.add_argument(*names, default=argparse.SUPPRESS, **options)


def given_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `TrainConfig` that `--config` holds and the command line, which wins."""
    given = {key: value for key, value in vars(args).items() if key in OPTIONS}
    for name, option in OPTIONS.items():
        parts = {part: getattr(args, part) for part in option.parts if hasattr(args, part)}
        if parts:
            given[name] = parts
    if given.get("augment") is False and "augment_args" in given:
        raise UsageError(f"--no-augment excludes {_spelled(next(iter(given['augment_args'])))}")
    if not hasattr(args, "config"):
        return given
    from kseg.training.config_file import read_arguments

    return {**read_arguments(args.config), **given}


def to_config(args: argparse.Namespace) -> TrainConfig:
    """Return the config; on `--resume` what was not given comes from the run's own record.

    Raises:
        UsageError: if out, model or data are missing, or a value is out of range.
    """
    given = given_arguments(args)
    if given.get("resume") and "out" in given:
        from kseg.training import record

        before = record.read(Path(given["out"]))
        if before is None:
            _check_no_stages(Path(given["out"]))
        given = {**(before["arguments"] if before else {}), **given}
    _check_needed(given, _NEEDED)
    return TrainConfig.from_dict(given)


def _check_needed(given: dict[str, Any], needed: Sequence[str]) -> None:
    missing = [_spelled(name) for name in needed if name not in given]
    if missing:
        raise UsageError(
            f"missing {' and '.join(missing)}: see `kseg models` for models; data is a folder, "
            "tfds:NAME or sample:nuclei; out is the run folder that is made"
        )


def _check_no_stages(out: Path) -> None:
    stages = sorted(path.parent.name for path in out.glob("*/run.json"))
    if stages:
        raise UsageError(
            f"'{out}' holds the stages {', '.join(stages)}: go on with the command that made them, "
            "its --stages and --resume"
        )


def run(args: argparse.Namespace) -> int:
    """Train, then print where the model is and what to do next."""
    from kseg.training import train

    if hasattr(args, "stages"):
        from kseg.training.stages import read_stages, train_stages

        common = given_arguments(args)
        _check_needed(common, ("out",))
        stages = read_stages(args.stages, common)
        config, result = stages[-1], train_stages(stages)[-1]
    else:
        config = to_config(args)
        result = train(config)
    _summary(config, result)
    return 0


def _summary(config: TrainConfig, result: dict[str, Any]) -> None:
    """Print where the model is and what to do next."""
    from kseg import models, records, tasks
    from kseg.output import closing_line, console
    from kseg.training import record

    task = tasks.find(models.describe(config.model).task)
    kind: Any = float | None
    where = f"'{config.out}', `result` of run.json"
    found = records.convert(result.get(f"val_{task.headline}"), kind, where=where)
    score = "no val split" if found is None else f"val {task.label} {100 * found:.2f} %"
    if not result.get("beats_chance", True):
        chance = 100 * (records.convert(result.get(f"chance_{task.headline}"), kind, where=where) or 0.0)
        score += f", no better than what can be had without looking at the image ({chance:.2f} %)"
    console.print(
        f"{result['model']}: {score} (epoch {result['best_epoch']} of {result['epochs']}, "
        f"{result['seconds']:.0f} s, {result['images_per_second']:.1f} {config.examples}/s)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    splits = (record.read(Path(config.out)) or {})["data"]["splits"]
    held_out = next((name for name in ("test", "val") if name in splits), config.train_split)
    closing_line(f"kseg evaluate {result['model']} --data {config.data} --split {held_out}")
    closing_line(
        f"kseg export {result['model']} --to tflite --precision int8 --data {config.data} "
        f"--out {Path(config.out) / 'exports' / 'model_int8.tflite'}"
    )
