"""The one table of architectures: how a network is found by name, checked, built and described.

A new architecture is one module with a decorated function (in `kseg/models/semantic/`), one import line in
`kseg/models/__init__.py` and one test file.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import keras

from kseg import records, tasks
from kseg.checks import SHARE, Range, whole
from kseg.errors import KsegError, UsageError, did_you_mean
from kseg.layers import PadToStride
from kseg.models.shapes import bounded

P = ParamSpec("P")
# The union that each class of the data is in, and the number of unions.
Unions = tuple[Sequence[int], int]
View = Callable[[Mapping[str, Any]], Unions | None]

# What the argument `width` of a network may be.
WIDTHS = Range(0, 16, above=True)

# Not part of an architecture: the size is the user's choice, weights (and where they began) are in the file.
_NOT_ARCHITECTURE = ("input_shape", "weights", "init_from")
# Far beyond what any network has, and near enough that building it ends: counts unroll into layers, and sizes
# into arrays that are no weights.
_MOST = {
    "num_classes": 2**16,
    "instances": 64,
    "depth": 16,
    "iterations": 100,
    "test_iterations": 100,
    "window": 1001,
    "fc_kernel": 101,
    "rectangles": 2**16,
    "grid": 1000,
    "hidden": 2**20,
    "stride": 2**12,
    "output_stride": 2**12,
    "texton_stride": 2**12,
    "dilation": 2**12,
}


@dataclass(frozen=True)
class ModelInfo:
    """What rebuilds a network, and the grid it works on.

    Args:
        architecture: registered name, for example `"FCN8s"`.
        arch_args: JSON keyword arguments of `create`, without `input_shape` and `weights`.
        stride: the network pads H and W inside the graph to a multiple of this, and crops back.
    """

    architecture: str
    arch_args: Mapping[str, Any] = field(default_factory=dict)
    stride: int = 1


@dataclass(frozen=True)
class Entry:
    """One registered architecture.

    Args:
        name: public name, which is also the name of the function in `kseg.models`.
        build: the function that returns the network.
        summary: first line of its docstring.
        paper: authors, title, venue, or "none" with the reason.
        output_stride: stride of the finest map that is scored, before the last up-sampling.
        task: what it is trained for: a row of `kseg.tasks`.
        aliases: other names that `resolve` accepts.
        parameters: names and defaults of the arguments of `build`.
        keep_float: regular expression; layers that int8 leaves in float unless the user says otherwise.
        learned_with: arguments of which a trained network has the weights for one value only, though they
            would fit with others (`kseg.models.rebuild` refuses these).
        before: arguments that files of earlier versions do not name -> what those files mean.
        views: arguments that only choose what a network shows, and stand at their defaults in training ->
            `f(arguments)`: the unions of the data's classes that it shows, None for the classes themselves.
    """

    name: str
    build: Callable[..., keras.Model]
    summary: str
    paper: str
    output_stride: int
    task: str
    aliases: tuple[str, ...]
    parameters: Mapping[str, Any]
    keep_float: str | None = None
    learned_with: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)

    @property
    def default_encoder(self) -> str | None:
        """Name of the encoder that is used when none is given; None if the network has its own."""
        return self.parameters.get("encoder")


_ENTRIES: dict[str, Entry] = {}
_KEYS: dict[str, str] = {}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def register(
    *,
    paper: str,
    output_stride: int,
    task: str = "semantic",
    aliases: tuple[str, ...] = (),
    keep_float: str | None = None,
    learned_with: tuple[str, ...] = (),
    before: Mapping[str, Any] | None = None,
    views: Mapping[str, View] | None = None,
) -> Callable[[Callable[P, keras.Model]], Callable[P, keras.Model]]:
    """Enter a network function into the table, with what `Entry` says of it; its networks get `.info`."""

    def decorate(function: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
        name = function.__name__
        signature = inspect.signature(function)

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            _check(name, bound.arguments)
            try:
                model = bounded(lambda: function(*args, **kwargs), name)
            except KsegError:
                raise
            except Exception:
                # The network's own checks say more; what they let pass may be of a wrong type all the same.
                _check_types(name, function, bound.arguments)
                raise
            strides = [max(layer.stride) for layer in model.layers if isinstance(layer, PadToStride)]
            model.info = ModelInfo(name, _arch_args(name, bound.arguments), max(strides, default=1))
            return model

        entry = Entry(
            name=name,
            build=build,
            summary=(inspect.getdoc(function) or "").split("\n")[0],
            paper=paper,
            output_stride=output_stride,
            task=task,
            aliases=aliases,
            parameters={key: item.default for key, item in signature.parameters.items()},
            keep_float=keep_float,
            learned_with=learned_with,
            before=dict(before or {}),
            views=dict(views or {}),
        )
        for label in (name, *aliases):
            if _KEYS.setdefault(_key(label), name) != name:
                raise ValueError(f"two networks are called {label!r}: {_KEYS[_key(label)]} and {name}")
        _ENTRIES[name] = entry
        return build

    return decorate


def _check_types(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Compare the arguments with the annotations of the network's function.

    Raises:
        UsageError: naming the argument, what it must be and what was received.
    """
    hints = typing.get_type_hints(function)
    for key, value in arguments.items():
        if value is not None and key in hints and key not in _NOT_ARCHITECTURE:
            records.convert(value, hints[key], where=f"{name}: argument `{key}`", error=UsageError)


def _arch_args(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as JSON values (tuples become lists)."""
    kept = {key: value for key, value in arguments.items() if key not in _NOT_ARCHITECTURE}
    if kept.get("name") is None:
        kept.pop("name", None)
    try:
        return named(name, json.loads(json.dumps(kept, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: arguments must be JSON values ({error}). Received: {kept!r}") from error


def named(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `arguments` with those written out that would mean something else in an old file.

    Args:
        name: registered name.
        arguments: of `create`; of a network over another one, `base_args` is completed too.
    """
    return _filled(name, arguments, lambda entry: {key: entry.parameters[key] for key in entry.before})


def from_file(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a file or a run holds, with what they meant when it was written.

    Args:
        name: architecture as the file names it; one that is not registered keeps its arguments.
        arguments: as the file has them.
    """
    return _filled(name, arguments, lambda entry: entry.before)


def _filled(
    name: str, arguments: Mapping[str, Any], values: Callable[[Entry], Mapping[str, Any]]
) -> dict[str, Any]:
    key = _KEYS.get(_key(str(name)))
    if key is None:
        return dict(arguments)
    filled = {**values(_ENTRIES[key]), **arguments}
    base = _base(filled)
    if base is not None and (completed := _filled(*base, values)):
        filled["base_args"] = completed
    return filled


def altered(
    name: str, given: Mapping[str, Any], kept: Mapping[str, Any], left_open: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Return the arguments in which `kept` is not what `given` has become.

    Args:
        name: registered name.
        given: by the caller, JSON values.
        kept: in a record, as `from_file` returns it. What `named` writes out may be anything in it where
            `given` leaves it open.
        left_open: further arguments that are settled where `given` has none.

    Returns:
        Name -> (kept, given).
    """
    entry = _ENTRIES[name]
    base, own = (_base({**entry.parameters, **values}) for values in (kept, given))
    inner = _KEYS.get(_key(base[0])) if base else None
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**kept, **given}:
        if (key in entry.before and key not in given) or (key in left_open and given.get(key) is None):
            continue
        default = entry.parameters.get(key)
        default = list(default) if isinstance(default, tuple) else default
        pair = kept.get(key, default), given.get(key, default)
        if key == "base_args" and base and own and inner:
            differs = bool(altered(inner, own[1], base[1]))
        else:
            differs = pair[0] != pair[1]
        if differs:
            found[key] = pair
    return found


def _base(arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return name and arguments of the network that one over another has as its base."""
    name, given = arguments.get("base"), arguments.get("base_args") or {}
    return (name, given) if isinstance(name, str) and isinstance(given, Mapping) else None


def _with_bases(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield a network and the one that it is over, and so on, each with all its arguments."""
    key = _KEYS.get(_key(str(name)))
    if key is None:
        return
    entry = _ENTRIES[key]
    whole = {**entry.parameters, **arguments}
    yield entry, whole
    base = _base(whole)
    if base is not None:
        yield from _with_bases(*base)


def learned(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that trained weights cannot be parted from (`Entry.learned_with`), with values."""
    values: dict[str, Any] = {}
    for entry, values_of in _with_bases(name, arguments):
        for item in entry.learned_with:
            values.setdefault(item, values_of[item])
    return values


def untrained(name: str, arguments: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the arguments that only choose what a network shows (`Entry.views`), and do not as in training.

    Returns:
        Name -> (value, the default, with which the network is trained).
    """
    return {
        item: (whole[item], entry.parameters[item])
        for entry, whole in _with_bases(name, arguments)
        for item in entry.views
        if whole[item] != entry.parameters[item]
    }


def unions(name: str, arguments: Mapping[str, Any]) -> Unions | None:
    """Return the unions of the data's classes that a network with these arguments tells apart, if it does."""
    found = [view(whole) for entry, whole in _with_bases(name, arguments) for view in entry.views.values()]
    return next((merged for merged in found if merged is not None), None)


def _check(name: str, arguments: Mapping[str, Any]) -> None:
    """Check the arguments that every architecture shares.

    Raises:
        UsageError: naming the argument, its range and what was received.
    """
    shape = arguments["input_shape"]
    sides = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if (
        len(sides) != 3
        or any(not (s is None or (isinstance(s, int) and s > 0)) for s in sides)
        or not sides[2]
    ):
        raise UsageError(
            f"{name}: argument `input_shape` must be (height, width, channels); height and width "
            f"may be None. Received: input_shape={shape!r}"
        )
    classes = arguments["num_classes"]
    whole(classes, f"{name}: argument", "num_classes")
    for key, most in _MOST.items():
        value = arguments.get(key)
        if isinstance(value, int) and value > most:
            raise UsageError(f"{name}: argument `{key}` must be at most {most:,}. Received: {key}={value!r}")
    title = arguments.get("name")
    if title is not None and (not isinstance(title, str) or not title or "/" in title):
        raise UsageError(f"{name}: argument `name` must be a text without '/'. Received: name={title!r}")
    width = arguments.get("width", 1.0)
    WIDTHS.check(width, "width", f"{name}: argument")
    SHARE.check(arguments.get("dropout", 0.0), "dropout", f"{name}: argument")


def names(task: str | None = None) -> list[str]:
    """Return the registered names in alphabetical order, of installed packages too: of one task, or all."""
    tasks.load_installed()
    return sorted(name for name, entry in _ENTRIES.items() if task in (None, entry.task))


def resolve(name: str) -> str:
    """Return the registered name for `name`, blind to case and separators.

    Raises:
        UsageError: if no architecture has this name; says the nearest one and lists all.
    """
    if _key(str(name)) not in _KEYS:
        tasks.load_installed()
    found = _KEYS.get(_key(str(name)))
    if found is None:
        raise UsageError(
            f"There is no model '{name}'.{did_you_mean(_key(str(name)), [*names(), *_KEYS])} "
            f"Known models: {', '.join(names())}."
        )
    return found


def describe(name: str) -> Entry:
    """Return the table entry of `name` (see `resolve`)."""
    return _ENTRIES[resolve(name)]


def create(name: str, /, **kwargs: Any) -> keras.Model:
    """Build a network by name.

    Args:
        name: see `resolve`.
        **kwargs: arguments of that network, for example `num_classes=11, encoder="resnet18"`; a `name`
            among them is the Keras model's.

    Returns:
        A functional model, float32 NHWC images -> float32 NHWC logits at input size, with `.info`.

    Raises:
        UsageError: unknown name, unknown argument, or a value out of range.

    Example:
        >>> model = create("fcn-8s", num_classes=11, encoder="resnet18", width=0.5)
    """
    entry = describe(name)
    unknown = [key for key in kwargs if key not in entry.parameters]
    if unknown:
        raise UsageError(
            f"{entry.name} has no argument `{unknown[0]}`.{did_you_mean(unknown[0], list(entry.parameters))} "
            f"Known arguments: {', '.join(entry.parameters)}."
        )
    return entry.build(**kwargs)
