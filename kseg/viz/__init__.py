"""Pictures and the report: numpy, Pillow and matplotlib only, no Keras."""

from __future__ import annotations

from kseg.viz.curves import plot_history, read_history
from kseg.viz.images import IGNORE_COLOR, colorize, error_map, legend, overlay, side_by_side
from kseg.viz.report import write_report

__all__ = [
    "IGNORE_COLOR",
    "colorize",
    "error_map",
    "legend",
    "overlay",
    "plot_history",
    "read_history",
    "side_by_side",
    "write_report",
]
