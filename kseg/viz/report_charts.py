"""The report's learning curves as inline SVG."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from kseg.viz.curves import charts, epochs, read_history

_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 28, 28


def curves_section(history_csv: str | os.PathLike[str] | None) -> str:
    """Return the section with one chart per measured thing; an empty text where there is nothing."""
    if history_csv is None:
        return ""
    history = read_history(history_csv)
    drawn = [_chart(title, epochs(history), series) for title, series in charts(history).items()]
    if not drawn:
        return ""
    return f'<section><h2>Learning curves</h2><div class="charts">{"".join(drawn)}</div></section>'


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers inside [low, high], about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _chart(title: str, numbers: list[float], series: dict[str, list[float]]) -> str:
    """Return one line chart; a value that is not finite leaves a gap."""
    finite = [value for values in series.values() for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    if low >= 0 and low < 0.6 * high:
        low = 0.0
    if high - low < 1e-12:
        low, high = low - abs(low) * 0.5 - 1e-6, high + abs(high) * 0.5 + 1e-6
    # A file that was edited may count its epochs in any order.
    first, span = min(numbers), (max(numbers) - min(numbers)) or 1.0

    def x(epoch: float) -> float:
        return _LEFT + (epoch - first) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    high += 0.04 * (high - low)
    parts = [f'<text class="t" x="{_LEFT}" y="16">{title}</text>']
    for value in ticks(low, high):
        at = f"{y(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for epoch in sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]}):
        parts.append(f'<text x="{x(epoch):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{epoch:g}</text>')
    key = []
    for label, values in series.items():
        parts += _lines(label, values, [x(epoch) for epoch in numbers], y)
        last_value = next(value for value in reversed(values) if math.isfinite(value))
        # A lone series (the learning rate) needs no name.
        named = f"{label} {last_value:.4g}" if len(series) > 1 else f"{last_value:.4g}"
        key.append(f'<tspan class="{label} k" dx="8">{named}</tspan>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="16" text-anchor="end">{"".join(key)}</text>')
    described = f"{title} over epochs: {', '.join(series)}"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{described}">{"".join(parts)}</svg>'


def _lines(label: str, values: list[float], places: list[float], y: Callable[[float], float]) -> list[str]:
    """Return polylines between gaps; a lone point becomes a dot."""
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in zip(places, values, strict=True):
        if math.isfinite(value):
            runs[-1].append((place, y(value)))
        elif runs[-1]:
            runs.append([])
    parts = []
    for run in runs:
        if len(run) == 1:
            parts.append(f'<circle class="{label}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="3"/>')
        elif run:
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in run)
            parts.append(f'<polyline class="{label}" points="{points}"/>')
    return parts
