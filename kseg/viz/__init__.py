"""Pictures and the report: numpy, Pillow and OpenCV, no Keras; matplotlib is imported to plot curves only."""

from __future__ import annotations

from kseg.viz.curves import plot_history, read_history
from kseg.viz.images import (
    IGNORE_COLOR,
    colorize,
    error_map,
    legend,
    outline_width,
    overlay,
    side_by_side,
    text_size,
)
from kseg.viz.report import write_report

__all__ = [
    "IGNORE_COLOR",
    "colorize",
    "error_map",
    "legend",
    "outline_width",
    "overlay",
    "plot_history",
    "read_history",
    "side_by_side",
    "text_size",
    "write_report",
]
