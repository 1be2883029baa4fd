"""The report's tables: classes, confusion, exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kseg.metrics.confusion import Confusion
from kseg.spec import Spec
from kseg.viz.escaping import escape

DASH = "\N{EN DASH}"

# Up to this many classes a confusion table stands open; a larger one is folded away.
_MOST_OPEN = 12
# Beyond this many classes a confusion table is unreadable: the largest confusions are listed instead.
_MOST_CLASSES = 24
_MOST_CONFUSIONS = 20


def percent(value: Any, digits: int = 1) -> str:
    """Return a share in 0..1 as percent; None as a dash."""
    return DASH if value is None else f"{100 * float(value):.{digits}f} %"


def _bar(share: float | None, text: str) -> str:
    width = 0.0 if share is None else 100 * min(1.0, max(0.0, float(share)))
    return f'<div class="bar"><i style="width:{width:.1f}%"></i><b>{escape(text)}</b></div>'


def _swatch(spec: Spec, index: int) -> str:
    name = escape(spec.classes[index])
    return f'<i class="sw" style="background:rgb{spec.palette[index]}"></i>{name}'


def classes_section(splits: Mapping[str, Mapping[str, Any]], spec: Spec) -> str:
    """Return the table of per-class IoU and accuracy, one pair of columns per split."""
    given = {name: scores for name, scores in splits.items() if scores.get("iou") is not None}
    if not given:
        return ""
    head = "".join(
        f'<th>IoU, {escape(name)}</th><th class="n">accuracy, {escape(name)}</th>' for name in given
    )
    rows = []
    for index in range(spec.num_classes):
        cells = [f"<td>{_swatch(spec, index)}</td>"]
        for scores in given.values():
            iou, acc = scores["iou"][index], (scores.get("acc") or [None] * spec.num_classes)[index]
            cells.append(f'<td>{_bar(iou, percent(iou))}</td><td class="n">{percent(acc)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        "<section><h2>Classes</h2><p>IoU = hits / (truth or prediction), accuracy = hits / truth, over all "
        "pixels of the split that are not ignored. A dash: the class does not occur.</p>"
        f'<div class="scroll"><table><thead><tr><th>class</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def confusion_section(matrices: Mapping[str, Confusion], spec: Spec) -> str:
    """Return one row-normalised table per split, or the largest confusions when there are many classes."""
    if not matrices:
        return ""
    parts = []
    for name, confusion in matrices.items():
        table = _heat(confusion, spec) if spec.num_classes <= _MOST_CLASSES else _largest(confusion, spec)
        scrolled = f'<div class="scroll">{table}</div>'
        if spec.num_classes <= _MOST_OPEN:
            parts.append(f"<h3>{escape(name)}</h3>{scrolled}")
        else:
            summary = f"{escape(name)}: {spec.num_classes} classes"
            parts.append(f"<details><summary>{summary}</summary>{scrolled}</details>")
    return (
        "<section><h2>Confusion</h2><p>Each row is a true class; the cells say, in percent, what its pixels "
        f"were taken for.</p>{''.join(parts)}</section>"
    )


def _shares(confusion: Confusion) -> np.ndarray:
    """Return row-normalised counts; rows without a pixel are NaN."""
    truth = confusion.matrix.sum(axis=1, keepdims=True)
    return np.where(truth > 0, confusion.matrix / np.maximum(truth, 1), np.nan)


def _heat(confusion: Confusion, spec: Spec) -> str:
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in spec.classes)
    rows = []
    for index, row in enumerate(_shares(confusion)):
        cells = "".join(
            f"<td>{DASH}</td>"
            if np.isnan(share)
            # The root lets small confusions show; the text says the number.
            else f'<td style="background:rgba(var(--heat),{0.75 * share**0.5:.3f})" '
            f'title="{escape(spec.classes[index])} as {escape(spec.classes[other])}: '
            f'{int(confusion.matrix[index, other]):,} pixels">{_short(share)}</td>'
            for other, share in enumerate(row)
        )
        rows.append(f'<tr><th class="row">{_swatch(spec, index)}</th>{cells}</tr>')
    return (
        f'<table class="heat"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _short(share: float) -> str:
    """Return a share in percent in at most four characters; nothing for exactly 0."""
    if share == 0:
        return ""
    return "&lt;.1" if share < 0.001 else f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"


def _largest(confusion: Confusion, spec: Spec) -> str:
    shares = _shares(confusion)
    wrong = confusion.matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None)[::-1][:_MOST_CONFUSIONS]
    rows = "".join(
        f"<tr><td>{_swatch(spec, true)}</td><td>{_swatch(spec, other)}</td>"
        f'<td class="n">{percent(shares[true, other])}</td>'
        f'<td class="n">{int(wrong[true, other]):,}</td></tr>'
        for true, other in (divmod(int(flat), spec.num_classes) for flat in order)
        if wrong[true, other]
    )
    return (
        '<table><thead><tr><th>true class</th><th>taken for</th><th class="n">share of the true class</th>'
        f'<th class="n">pixels</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _size(value: Any) -> str:
    return f"{float(value) / 1e6:.2f} MB" if float(value) >= 1e4 else f"{int(value)} B"


# Key of a row -> (heading, how a value is written), in the order of the columns: what decides comes first.
# Other keys follow, under their own name.
_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "file": ("file", str),
    "verify": ("verify", str),
    "miou": ("mIoU", percent),
    "miou_drop": ("points lost", lambda v: f"{float(v):+.2f}"),
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


def exports_section(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of artefacts. Keys: see `write_report`."""
    if not rows:
        return ""
    every = list(dict.fromkeys(key for row in rows for key in row if key not in _UNDER_FILE))
    keys = [key for key in _COLUMNS if key in every] + [key for key in every if key not in _COLUMNS]
    head = "".join(f"<th{_class(key, rows)}>{escape(_heading(key))}</th>" for key in keys)
    body = "".join("<tr>" + "".join(_cell(key, row, rows) for key in keys) + "</tr>" for row in rows)
    return (
        '<section><h2>Exports</h2><div class="scroll"><table class="exports"><thead><tr>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _heading(key: str) -> str:
    return str(_COLUMNS.get(key, (key,))[0])


def _is_text(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a column is text: one of the known ones, or an unknown one with a text in it."""
    return key in _WORDS or (key not in _COLUMNS and any(isinstance(row.get(key), str) for row in rows))


def _class(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return "" if _is_text(key, rows) else ' class="n"'


def _cell(key: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    value = row.get(key)
    # A narrow screen shows a row as a list, each value with its heading.
    label = f' data-label="{escape(_heading(key))}"'
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
