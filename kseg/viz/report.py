"""The report: one self-contained HTML page about one trained network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kseg import files, tasks
from kseg.spec import Spec
from kseg.viz.escaping import escape
from kseg.viz.report_charts import curves_section
from kseg.viz.report_exports import exports_section
from kseg.viz.report_phases import phases_section
from kseg.viz.report_style import CSS, JS


def write_report(
    out_html: str | os.PathLike[str],
    *,
    title: str,
    spec: Spec,
    history_csv: str | os.PathLike[str] | None = None,
    examples: Iterable[tuple[str, Any, Any, Any]] = (),
    scores: Mapping[str, Any] | None = None,
    exports: Sequence[Mapping[str, Any]] = (),
    phases: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Mapping[str, str] | Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Path:
    """Write the page. It needs no other file and no network; images are inside as data URIs.

    Args:
        out_html: where it goes; written whole or not at all.
        title: heading.
        spec: class names, palette, ignore id, architecture, input size.
        history_csv: the training history (`read_history`); None leaves the curves out.
        examples: (name, image uint8 (H, W, 3), truth or None, prediction) each; of a semantic model the last
            two are class ids (H, W).
        scores: split name -> the task's scorer, or what its `scores()` returned; of a semantic model a
            `Confusion` gives the confusion table too, and so does a `matrix` in such a dict.
        exports: one row per artefact. Known keys: `file`, `format`, `precision`, `size_bytes`, `load_ms`,
            `p50_ms`, `p95_ms`, `images_per_s`, `ratio` (speed-up over the reference), `peak_mb`, the
            task's score (`miou`) and `agreement` (0..1), `miou_drop` (points), `verify` (`"passed"`,
            `"failed"`, another text, or a bool), `reason` (why a row has no numbers). Other keys become
            further columns; None is a dash.
        phases: of a training in phases: name -> what it says, its `seconds` among it. Numbers are shown, and
            first and last of lists of numbers.
        notes: how each number was made: name -> text, or texts.
        commands: shell commands that make it again, or go on from here.

    Returns:
        The path of the page.

    Raises:
        UsageError: if a score or an example does not fit the spec.
        DataError: if the history cannot be read, or a mask has unknown ids.
    """
    task = tasks.find(spec.task)
    shown: tasks.Page = task.part("page")(examples, scores or {}, spec)
    body = "".join(
        [
            shown.examples,
            shown.tables,
            exports_section(exports, task),
            curves_section(history_csv),
            phases_section(phases or {}),
            _notes_section(notes, commands),
        ]
    )
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in shown.cards
    )
    cards = f'<div class="cards">{cards}</div>' if cards else ""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_facts(spec)}{cards}</header>"
        f"<main>{body}</main><footer>{_footer(spec)}</footer><script>{JS}</script></body></html>\n"
    )
    files.write_text(out_html, page)
    return Path(out_html)


def _facts(spec: Spec) -> str:
    """Return the line of small facts under the heading."""
    size = "any size" if spec.input_size is None else "{} \N{MULTIPLICATION SIGN} {}".format(*spec.input_size)
    facts = {
        "network": spec.architecture,
        "encoder": spec.arch_args.get("encoder"),
        "input": size,
        "classes": spec.num_classes,
        "data": spec.data.get("source"),
        "ignored id": spec.ignore_id,
    }
    items = "".join(
        f"<li>{name} <b>{escape(str(value))}</b></li>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f'<ul class="facts">{items}</ul>'


def _notes_section(notes: Mapping[str, str] | Sequence[str], commands: Sequence[str]) -> str:
    if isinstance(notes, Mapping):
        text = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in notes.items())
        text = f"<dl>{text}</dl>" if text else ""
    else:
        text = "".join(f"<p>{escape(str(note))}</p>" for note in notes)
    shell = "".join(f"<pre>{escape(str(command))}</pre>" for command in commands)
    made = f"<section><h2>How each number was made</h2>{text}</section>" if text else ""
    again = f"<section><h2>Commands</h2>{shell}</section>" if shell else ""
    return made + again


def _footer(spec: Spec) -> str:
    version = f" {spec.kseg_version}" if spec.kseg_version else ""
    return f"Written by kseg{escape(version)}."
