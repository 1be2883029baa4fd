"""Draw a benchmark: one panel per measure, one bar per file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kseg.errors import UsageError
from kseg.files import atomic

_PANELS = (
    ("p50_ms", "latency, ms (bar: median, line: 95 %)", 1.0),
    ("bytes", "file, MB", 1e-6),
    ("peak_bytes", "peak memory, MB", 1e-6),
)
_COLORS = {
    "keras": "#6b7280",
    "tflite": "#0f766e",
    "onnx": "#1d4ed8",
    "tensorrt": "#4d7c0f",
    "tensorrt-rtx": "#4d7c0f",
}
_SUFFIXES = (".png", ".svg", ".pdf")


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise UsageError unless `path` has a suffix that we can draw to."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise UsageError(f"A plot must end in {', '.join(_SUFFIXES)}. Received: '{path}'")


def plot_benchmark(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the measured rows of `deploy.benchmark`'s result.

    Args:
        result: what `deploy.benchmark` returned.
        path: `.png`, `.svg` or `.pdf`.
    """
    check_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if "p50_ms" in row]
    setup = result["setup"]
    every = (*_PANELS, (setup["metric"], f"{setup['label']}, %", 100.0))
    panels = [panel for panel in every if any(row.get(panel[0]) is not None for row in rows)]
    figure = Figure(figsize=(3.2 * max(1, len(panels)), 1.4 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    names = [Path(row["path"]).name for row in rows]
    colors = [_COLORS.get(row["format"], "#6b7280") for row in rows]
    positions = list(range(len(rows)))
    for column, (key, title, scale) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), column + 1)
        values = [scale * (row.get(key) or 0.0) for row in rows]
        bars = axes.barh(positions, values, color=colors)
        if key == "p50_ms":
            axes.hlines(positions, values, [row["p95_ms"] for row in rows], color="black", linewidth=1)
        else:
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
        axes.set_title(title, fontsize=9)
        axes.set_yticks(positions, names if column == 0 else [""] * len(rows), fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.margins(x=0.2)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"{setup['processor']}, batch 1, {setup['date'][:10]}", fontsize=7)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=150)
