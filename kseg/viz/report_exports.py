"""The report's table of exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kseg.tasks import Task
from kseg.viz.escaping import escape

DASH = "\N{EN DASH}"


def percent(value: Any, digits: int = 1) -> str:
    """Return a share in 0..1 as percent; None as a dash."""
    return DASH if value is None else f"{100 * float(value):.{digits}f} %"


def _size(value: Any) -> str:
    return f"{float(value) / 1e6:.2f} MB" if float(value) >= 1e4 else f"{int(value)} B"


# Key of a row -> (heading, how a value is written), in the order of the columns: what decides comes first.
# Other keys follow, under their own name.
_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "file": ("file", str),
    "verify": ("verify", str),
    "score": ("score", percent),
    "drop": ("points lost", lambda v: f"{float(v):+.2f}"),
    "agreement": ("agreement", lambda v: percent(v, 2)),
    "p50_ms": ("p50, ms", lambda v: f"{float(v):.1f}"),
    "p95_ms": ("p95, ms", lambda v: f"{float(v):.1f}"),
    "images_per_s": ("images/s", lambda v: f"{float(v):.1f}"),
    "ratio": ("speed-up", lambda v: f"{float(v):.2f}\N{MULTIPLICATION SIGN}"),
    "load_ms": ("load, ms", lambda v: f"{float(v):.0f}"),
    "peak_mb": ("peak memory, MB", lambda v: f"{float(v):.0f}"),
}
_WORDS = ("file", "verify")
# Written in small under the file's name: as columns they pushed the verdict off the page.
_UNDER_FILE: dict[str, Callable[[Any], str]] = {
    "format": str,
    "precision": str,
    "size_bytes": _size,
    "reason": str,
}


def exports_section(rows: Sequence[Mapping[str, Any]], task: Task) -> str:
    """Return the table of artefacts. Keys: see `write_report`."""
    if not rows:
        return ""
    rows = [_plainly_named(row, task) for row in rows]
    every = list(dict.fromkeys(key for row in rows for key in row if key not in _UNDER_FILE))
    keys = [key for key in _COLUMNS if key in every] + [key for key in every if key not in _COLUMNS]
    headings = {key: task.label if key == "score" else _COLUMNS.get(key, (key,))[0] for key in keys}
    head = "".join(f"<th{_class(key, rows)}>{escape(headings[key])}</th>" for key in keys)
    body = "".join(
        "<tr>" + "".join(_cell(key, headings[key], row, rows) for key in keys) + "</tr>" for row in rows
    )
    return (
        '<section><h2>Exports</h2><div class="scroll"><table class="exports"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _plainly_named(row: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return a row with the score of its task, and what was lost of it, under the names of the columns."""
    names = {task.headline: "score", f"{task.headline}_drop": "drop"}
    return {names.get(key, key): value for key, value in row.items()}


def _is_text(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a column is text: one of the known ones, or an unknown one with a text in it."""
    return key in _WORDS or (key not in _COLUMNS and any(isinstance(row.get(key), str) for row in rows))


def _class(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return "" if _is_text(key, rows) else ' class="n"'


def _cell(key: str, heading: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    value = row.get(key)
    # A narrow screen shows a row as a list, each value with its heading.
    label = f' data-label="{escape(heading)}"'
    if key == "file":
        small = ", ".join(
            write(row[fact]) for fact, write in _UNDER_FILE.items() if row.get(fact) not in (None, "")
        )
        name = DASH if value is None else escape(str(value))
        return f'<td class="file">{name}<small>{escape(small)}</small></td>'
    if value is None:
        return f"<td{_class(key, rows)}{label}>{DASH}</td>"
    if key == "verify":
        text = _verdict_text(value)
        style = ' class="wrap"' if len(text) > 24 else ""
        return f'<td{style}{label}><span class="pill {_verdict(value)}">{escape(text)}</span></td>'
    # A text in a number's place ("built, not run: no CUDA device") is shown as it is.
    written = value if isinstance(value, str) else _COLUMNS.get(key, (key, _plain))[1](value)
    style = ' class="wrap"' if isinstance(value, str) and len(value) > 24 else _class(key, rows)
    return f"<td{style}{label}>{escape(written)}</td>"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdict_text(value: Any) -> str:
    return {True: "passed", False: "failed"}[value] if isinstance(value, bool) else str(value)


def _verdict(value: Any) -> str:
    """Return the colour class of a verify outcome: green only for what says it passed."""
    text = _verdict_text(value).strip().lower()
    if text.startswith("pass") or text in ("ok", "verified"):
        return "good"
    return "bad" if text.startswith("fail") else ""
