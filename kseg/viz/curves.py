"""Learning curves from a CSV history (as Keras' CSVLogger writes it)."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kseg import files, tasks
from kseg.errors import DataError
from kseg.text import printable

_MOST_BYTES = 16 * 2**20
# What is larger than any measured thing would leave no room on a chart for the rest.
_MOST = 1e100


def _titles() -> dict[str, str]:
    """Return what is worth a chart, in this order -> its title; each is drawn with its `val_` twin."""
    return {"loss": "Loss", **tasks.charts(), "learning_rate": "Learning rate"}


def read_history(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Read a history CSV: a header with `epoch` and metric names, one row per epoch.

    Returns:
        One list of floats per column, all of one length; what is no number below 1e100 is NaN. Without an
        `epoch` column of numbers the rows are numbered from 0.

    Raises:
        DataError: if the file is missing, huge, no text or has no header.
    """
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:
            raise DataError(
                f"Cannot read the history '{printable(path)}': it is no file of at most {_MOST_BYTES:,} bytes"
            )
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
            names = list(rows[0]) if rows else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read the history '{path}': {error}") from error
    if not names:
        raise DataError(f"The history '{path}' has no epochs: it needs a header and at least one row.")
    columns = {name: [_number(row.get(name)) for row in rows] for name in names if name}
    if not all(math.isfinite(value) for value in columns.get("epoch", [math.nan])):
        columns["epoch"] = [float(index) for index in range(len(rows))]
    return columns


def _number(text: str | None) -> float:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) < _MOST else math.nan


def epochs(history: dict[str, list[float]]) -> list[float]:
    """Return the epochs counted from 1: Keras' CSVLogger writes them from 0."""
    return [value + (history["epoch"][0] == 0) for value in history["epoch"]]


def charts(history: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Group columns into charts: title -> {"train": values, "val": values}, what has a number only.

    Scores come in 0..1 and are returned in per cent.
    """
    grouped = {}
    shares = tasks.charts()
    for name, title in _titles().items():
        pairs = {"train": history.get(name), "val": history.get(f"val_{name}")}
        series = {
            label: [100 * value for value in values] if name in shares else values
            for label, values in pairs.items()
            if values is not None and any(math.isfinite(value) for value in values)
        }
        if series:
            grouped[title] = series
    return grouped


def plot_history(history_csv: str | os.PathLike[str], png: str | os.PathLike[str]) -> Path:
    """Draw loss, scores and learning rate over epochs, as far as the CSV has them.

    Args:
        history_csv: see `read_history`.
        png: where the picture goes; written whole or not at all.

    Returns:
        The path of the picture.

    Raises:
        DataError: if the CSV cannot be read or has none of these columns.
    """
    history = read_history(history_csv)
    grouped = charts(history)
    if not grouped:
        raise DataError(f"The history '{history_csv}' has none of the columns {', '.join(_titles())}.")
    figure = _figure(4.6 * len(grouped))
    numbers = epochs(history)
    for index, (title, series) in enumerate(grouped.items()):
        axes = figure.add_subplot(1, len(grouped), index + 1)
        for label, values in series.items():
            color = "#2563eb" if label == "train" else "#ea580c"
            marker = "o" if len(values) < 12 else ""
            axes.plot(numbers, values, color=color, label=label, linewidth=1.8, marker=marker, markersize=3.5)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
    return _written(figure, png)


def plot_rates(
    rates: Sequence[float], losses: Sequence[float], suggestion: float, png: str | os.PathLike[str]
) -> Path:
    """Draw the loss over the learning rate (logarithmic) of a range test, the suggested rate marked.

    Args:
        rates: of each step.
        losses: of each step, as many.
        suggestion: the rate that is marked.
        png: where the picture goes; written whole or not at all.

    Returns:
        The path of the picture.
    """
    figure = _figure(5.6)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="#2563eb", linewidth=1.8)
    axes.axvline(suggestion, color="#ea580c", linewidth=1.4, label=f"suggested: {suggestion:.2g}")
    axes.set_xscale("log")
    # What breaks away at the end would flatten everything before it.
    axes.set_ylim(top=min(max(losses), 1.5 * losses[0]) * 1.05)
    axes.set_title("Loss (smoothed)", fontsize=11)
    axes.set_xlabel("learning rate")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return _written(figure, png)


def _figure(width: float) -> Any:
    # The object interface with the Agg canvas: needs no display and leaves pyplot's state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _written(figure: Any, png: str | os.PathLike[str]) -> Path:
    with files.atomic(png) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return Path(png)
