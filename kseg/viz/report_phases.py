"""The report's table of phases: how long each took, and what it counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kseg import tasks
from kseg.viz.escaping import escape
from kseg.viz.report_exports import DASH, percent

_SECONDS = "seconds"


def phases_section(phases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of a training in phases, empty where it has none. Phases: see `write_report`."""
    if not phases:
        return ""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{_written(said.get(_SECONDS))}</td>'
        f'<td class="wrap">{escape(_said(said))}</td></tr>'
        for name, said in phases.items()
    )
    return (
        '<section><h2>Phases of the training</h2><div class="scroll"><table><thead><tr><th>phase</th>'
        f'<th class="n">seconds</th><th>what it says</th></tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )


def _said(said: Mapping[str, Any]) -> str:
    """Return numbers, and first and last of what was logged; tables of classes stay in the record."""
    parts, epochs, shares = [], 0, tasks.charts()
    for key, value in said.items():
        numbers = value if isinstance(value, list) else [value]
        if key == _SECONDS or not numbers or not all(map(_is_number, numbers)):
            continue
        ends = numbers[:: max(1, len(numbers) - 1)]
        written = [percent(number) if key in shares else _written(number) for number in ends]
        parts.append(f"{key.replace('_', ' ')} {' to '.join(written)}")
        epochs = max(epochs, len(numbers) * isinstance(value, list))
    return ", ".join(parts) + (f"; {epochs} epochs" if epochs else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: Any) -> str:
    if not _is_number(value):
        return DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
