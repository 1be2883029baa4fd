"""The arguments that `evaluate` and `predict` share: how a model looks at images.

Here stand those that tasks have in common; a task's own come from its row (`kseg.tasks.Task.look`).
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from kseg import parsers, tasks
from kseg.errors import UsageError
from kseg.spec import RESIZE_RULES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `build` reads them."""
    group = parser.add_argument_group("how the model looks at an image")
    group.add_argument(
        "--size", type=parsers.size, metavar="HxW", help="run the network at this size (default: the model's)"
    )
    group.add_argument(
        "--resize", choices=RESIZE_RULES, help="how images meet that size (default: the model's rule)"
    )
    group.add_argument("--flip", action="store_true", help="average with the mirrored image")
    group.add_argument(
        "--scales",
        type=parsers.numbers("0.75,1,1.25"),
        default=(1.0,),
        metavar="S,S",
        help="average over image scales, e.g. 0.75,1,1.25",
    )
    group.add_argument(
        "--overlap",
        type=parsers.number(0, 0.95),
        default=0.25,
        metavar="SHARE",
        help="of neighbouring tiles (0.25)",
    )
    group.add_argument(
        "--batch-size", type=parsers.positive, default=1, metavar="N", help="network calls made at once (1)"
    )
    for part in [*_looks(), *_over()]:
        part.add_arguments(parser)


def build(args: argparse.Namespace) -> Any:
    """Open the model with the options given.

    Returns:
        A predictor of the model's task, what wraps one and has its surface, or what makes predictions of
        another task of its.

    Raises:
        UsageError: if an option is given that the task does not have.
    """
    from kseg.inference import load_runtime
    from kseg.output import note_line

    # What is wrong in a word is said before a model is opened.
    prepared = {name: tasks.find(name).part("look").prepare(args) for name in _names()}
    runtime = load_runtime(args.model)
    task = tasks.find(runtime.spec.task)
    _refuse_others(args, task)
    given = {**vars(args), "say": note_line}
    options = {name: given[name] for name in task.looks}
    if task.look:
        predictor = task.part("look").build(args, runtime, options, prepared[task.name])
    else:
        predictor = task.part("predictor")(runtime, **options)
    for part in _over(task.name):
        predictor = part.wrap(args, predictor)
    return predictor


def describe(args: argparse.Namespace, predictor: Any) -> dict[str, Any]:
    """Return the options as JSON values, as they took effect."""
    # The model's own task: predictions may be of another.
    task = tasks.find(predictor.runtime.spec.task)
    size = getattr(predictor, "size", None)
    took = {
        "size": None if size is None else list(size),
        "resize": getattr(predictor, "resize", None),
        "flip": args.flip,
        "scales": list(args.scales),
        "overlap": args.overlap,
    }
    found = {name: value for name, value in took.items() if name in task.looks}
    for part in _around(task):
        found |= part.describe(args)
    return found


def around(predictor: Any, options: dict[str, Any]) -> list[str]:
    """Say what stood around the network, by what `describe` returned."""
    return [
        text for part in _around(tasks.find(predictor.runtime.spec.task)) for text in part.around(options)
    ]


def _around(task: tasks.Task) -> list[Any]:
    """Return the modules of what may stand around networks of a task: its own, and those of other tasks."""
    return [*([task.part("look")] if task.look else []), *_over(task.name)]


def _names() -> list[str]:
    return [name for name in tasks.names() if tasks.find(name).look]


def _looks() -> list[Any]:
    return [tasks.find(name).part("look") for name in _names()]


def _over(name: str | None = None) -> list[Any]:
    """Return the modules that make predictions of other tasks of the models of one (None: of any)."""
    modules = [
        module
        for row in map(tasks.find, tasks.names())
        for below, module in row.over.items()
        if name in (None, below)
    ]
    return [importlib.import_module(module) for module in dict.fromkeys(modules)]


def _refuse_others(args: argparse.Namespace, task: tasks.Task) -> None:
    """Refuse options that are given and that a task does not have."""
    every, own = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_arguments(every)
    for part in _around(task):
        part.add_arguments(own)
    known = {*task.looks, *vars(own.parse_args([]))}
    for name, default in vars(every.parse_args([])).items():
        if name not in known and getattr(args, name) != default:
            raise UsageError(f"A model of the task '{task.name}' has no --{name.replace('_', '-')}")
