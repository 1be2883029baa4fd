"""The one table of refiners: parser, help and docs of `--refine` come from it.

A new refiner is a class in a module of its own and one `Entry` here.
"""

from __future__ import annotations

import importlib
import textwrap
from dataclasses import dataclass
from typing import Any

from kseg.errors import KsegError, UsageError, did_you_mean
from kseg.options import named_options
from kseg.semantic.refine.scores import Refiner


@dataclass(frozen=True)
class Argument:
    """One argument of a refiner.

    Args:
        name: as in the class's signature and in `NAME:name=value`.
        kind: `int`, `float` or `str`.
        default: as in the class's signature.
        help: what it does, with range or choices.
    """

    name: str
    kind: type
    default: Any
    help: str


@dataclass(frozen=True)
class Entry:
    """One refiner.

    Args:
        name: what users write.
        factory: `"module:Class"`, imported at first use.
        summary: what it does, in one line.
        arguments: its arguments, all with defaults.
    """

    name: str
    factory: str
    summary: str
    arguments: tuple[Argument, ...]


_SUPERPIXELS = (
    Argument("method", str, "felzenszwalb", "of cutting superpixels: felzenszwalb or slic"),
    Argument("scale", float, 50.0, "felzenszwalb: the larger, the larger the superpixels"),
    Argument("sigma", float, 0.8, "Gaussian before the cut, in pixels"),
    Argument("min_size", int, 50, "felzenszwalb: least pixels of a superpixel"),
    Argument("n_segments", int, 500, "slic: about how many superpixels"),
    Argument("compactness", float, 10.0, "slic: the larger, the squarer"),
)

_ENTRIES = (
    Entry(
        "superpixels",
        "kseg.semantic.refine.superpixels:SuperpixelPooling",
        "one class distribution per superpixel: the mean over its pixels",
        (
            Argument("pool", str, "mean", "mean (of the distributions) or majority (of the best classes)"),
            *_SUPERPIXELS,
        ),
    ),
    Entry(
        "superpixel-crf",
        "kseg.semantic.refine.superpixel_crf:SuperpixelCRF",
        "random field over superpixels, by alpha-expansion; the paper's figures smooth much, try "
        "unary=log,gamma=3",
        (
            Argument("alpha", float, 0.1, "how much a likely class costs less than an unlikely one"),
            Argument("beta", float, 20.0, "how fast a border's cost falls with its contrast"),
            Argument("gamma", float, 200.0, "weight of borders"),
            Argument("unary", str, "exp", "exp (the paper's) or log (negative log-probability)"),
            Argument("cycles", int, 10, "rounds over the classes at most"),
            *_SUPERPIXELS,
        ),
    ),
    Entry(
        "tree-cover",
        "kseg.semantic.refine.tree_cover:TreeCover",
        "segmentation tree over superpixels; each pixel takes its purest segment's distribution",
        (
            Argument("classifier", str, None, "file of `kseg train-segments` (default: mean prediction)"),
            Argument(
                "linkage", str, "average", "border contrast of merged segments: average or mst (faintest)"
            ),
            Argument("smoothing", float, 1.0, "Gaussian before contrasts are measured, in pixels"),
            *_SUPERPIXELS,
        ),
    ),
    Entry(
        "dense-crf",
        "kseg.semantic.refine.dense_crf:DenseCRF",
        "fully connected random field over pixels, by mean field",
        (
            Argument("preset", str, "deeplab2", "msrc, deeplab1, deeplab2, deconvnet, crf-rnn or pydensecrf"),
            Argument("w1", float, None, "weight of the bilateral kernel (the preset's)"),
            Argument("theta_alpha", float, None, "bilateral kernel, pixels (the preset's)"),
            Argument("theta_beta", float, None, "bilateral kernel, colours in 0-255 (the preset's)"),
            Argument("w2", float, None, "weight of the spatial kernel (the preset's)"),
            Argument("theta_gamma", float, None, "spatial kernel, pixels (the preset's)"),
            Argument("iterations", int, None, "of the mean field (the preset's)"),
            Argument("damping", float, 0.0, "share of the old distributions kept per iteration, below 1"),
            Argument("normalization", str, None, "of the kernels: symmetric or after (the preset's)"),
        ),
    ),
)

_TABLE = {entry.name: entry for entry in _ENTRIES}


def names() -> list[str]:
    """Return the refiners' names, in the table's order."""
    return list(_TABLE)


def describe(name: str) -> Entry:
    """Return the table's entry for `name`, blind to case and to `_` for `-`.

    Raises:
        UsageError: if there is no such refiner; says the nearest one and lists all.
    """
    found = _TABLE.get(name.strip().lower().replace("_", "-"))
    if found is None:
        raise UsageError(
            f"There is no refiner '{name}'.{did_you_mean(name, names())} Known refiners: {', '.join(names())}"
        )
    return found


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME` or `NAME:key=value,key=value`; no value may hold a comma.

    Returns:
        The table's name, and the arguments given, in their kinds.

    Raises:
        UsageError: unknown refiner or argument, an argument twice, or a value of another kind.
    """
    name, options = named_options(text)
    entry = describe(name)
    known = {argument.name: argument for argument in entry.arguments}
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise UsageError(_unknown(entry, key))
        values[key] = _converted(entry, known[key], value)
    return entry.name, values


def _unknown(entry: Entry, key: str) -> str:
    known = [argument.name for argument in entry.arguments]
    return (
        f"Refiner '{entry.name}' has no argument `{key}`.{did_you_mean(key, known)} "
        f"Known arguments: {', '.join(known)}"
    )


def _converted(entry: Entry, argument: Argument, value: str) -> Any:
    try:
        return argument.kind(value)
    except ValueError as error:
        kind = "a whole number" if argument.kind is int else "a number"
        raise UsageError(
            f"Refiner '{entry.name}': argument `{argument.name}` must be {kind}. "
            f"Received: {argument.name}={value!r}"
        ) from error


def create(name: str, /, **arguments: Any) -> Refiner:
    """Make a refiner by name.

    Args:
        name: see `describe`.
        **arguments: see the table; each has a default.

    Raises:
        UsageError: unknown refiner or argument, or a value out of range.
        MissingExtraError: if a library that it needs is not installed.

    Example:
        >>> refiner = create("superpixels", method="slic", n_segments=800)
    """
    entry = describe(name)
    known = [argument.name for argument in entry.arguments]
    for key in arguments:
        if key not in known:
            raise UsageError(_unknown(entry, key))
    module, _, factory = entry.factory.partition(":")
    try:
        refiner: Refiner = getattr(importlib.import_module(module), factory)(**arguments)
    except KsegError as error:
        raise type(error)(f"Refiner '{entry.name}': {error}") from error
    return refiner


def help_text(width: int = 78) -> str:
    """Return the table as text: every refiner with its arguments and their defaults."""
    shared = {argument.name for argument in _SUPERPIXELS}
    lines: list[str] = []
    for entry in _ENTRIES:
        lines += textwrap.wrap(f"{entry.name}: {entry.summary}", width, subsequent_indent="    ")
        own = [argument for argument in entry.arguments if argument.name not in shared]
        for argument in own:
            lines += _argument_lines(argument, width)
        if len(own) < len(entry.arguments):
            lines.append("  and the arguments of superpixels (below)")
    lines.append("arguments of superpixels:")
    for argument in _SUPERPIXELS:
        lines += _argument_lines(argument, width)
    return "\n".join(lines)


def _argument_lines(argument: Argument, width: int) -> list[str]:
    default = "" if argument.default is None else f" ({argument.default})"
    text = f"  {argument.name}: {argument.help}{default}"
    return textwrap.wrap(text, width, subsequent_indent="      ", break_long_words=False)
