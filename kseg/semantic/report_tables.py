"""The report's tables of a semantic model: classes, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kseg.metrics.confusion import Confusion
from kseg.spec import Spec
from kseg.viz.escaping import escape
from kseg.viz.report_exports import DASH, percent

# Up to this many classes a confusion table stands open; a larger one is folded away.
_MOST_OPEN = 12
# Beyond this many classes a confusion table is unreadable: the largest confusions are listed instead.
_MOST_CLASSES = 24
_MOST_CONFUSIONS = 20


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
