"""The report: one self-contained HTML page about one trained network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kseg import files
from kseg.errors import UsageError
from kseg.metrics.confusion import Confusion
from kseg.spec import Spec
from kseg.viz.escaping import escape
from kseg.viz.report_charts import curves_section
from kseg.viz.report_examples import Example, examples_section
from kseg.viz.report_style import CSS, JS
from kseg.viz.report_tables import classes_section, confusion_section, exports_section, percent

_CARDS = {"miou": "mean IoU", "pixel_acc": "pixel accuracy", "mean_acc": "mean accuracy"}


def write_report(
    out_html: str | os.PathLike[str],
    *,
    title: str,
    spec: Spec,
    history_csv: str | os.PathLike[str] | None = None,
    examples: Iterable[Example] = (),
    scores: Mapping[str, Confusion | Mapping[str, Any]] | None = None,
    exports: Sequence[Mapping[str, Any]] = (),
    notes: Mapping[str, str] | Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Path:
    """Write the page. It needs no other file and no network; images are inside as data URIs.

    Args:
        out_html: where it goes; written whole or not at all.
        title: heading.
        spec: class names, palette, ignore id, architecture, input size.
        history_csv: the training history (`read_history`); None leaves the curves out.
        examples: (name, image uint8 (H, W, 3), truth (H, W) or None, prediction (H, W)) each.
        scores: split name -> `Confusion` (which also gives the confusion table) or what
            `Confusion.scores()` returned; a `matrix` in such a dict gives the table too.
        exports: one row per artefact. Known keys: `file`, `format`, `precision`, `size_bytes`, `load_ms`,
            `p50_ms`, `p95_ms`, `images_per_s`, `ratio` (speed-up over the reference), `peak_mb`, `miou` and
            `agreement` (0..1), `miou_drop` (points), `verify` (`"passed"`, `"failed"`, another text, or a
            bool), `reason` (why a row has no numbers). Other keys become further columns; None is a dash.
        notes: how each number was made: name -> text, or texts.
        commands: shell commands that make it again, or go on from here.

    Returns:
        The path of the page.

    Raises:
        UsageError: if a score or an example does not fit the spec.
        DataError: if the history cannot be read, or a mask has unknown ids.
    """
    splits, matrices = _read_scores(scores or {}, spec)
    body = "".join(
        [
            examples_section(examples, spec),
            classes_section(splits, spec),
            confusion_section(matrices, spec),
            exports_section(exports),
            curves_section(history_csv),
            _notes_section(notes, commands),
        ]
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_facts(spec)}{_cards(splits, spec)}</header>"
        f"<main>{body}</main><footer>{_footer(spec)}</footer><script>{JS}</script></body></html>\n"
    )
    files.write_text(out_html, page)
    return Path(out_html)


def _read_scores(
    scores: Mapping[str, Confusion | Mapping[str, Any]], spec: Spec
) -> tuple[dict[str, dict[str, Any]], dict[str, Confusion]]:
    """Return the scores and, where there is one, the matrix of each split."""
    splits: dict[str, dict[str, Any]] = {}
    matrices: dict[str, Confusion] = {}
    for name, given in scores.items():
        if isinstance(given, Confusion):
            matrices[name] = given
            splits[name] = given.scores()
        else:
            splits[name] = dict(given)
            if given.get("matrix") is not None:
                matrices[name] = Confusion.from_matrix(given["matrix"], spec.ignore_id)
    for name, values in splits.items():
        lengths = {len(values[key]) for key in ("iou", "acc") if values.get(key) is not None}
        lengths |= {matrices[name].num_classes} if name in matrices else set()
        if lengths - {spec.num_classes}:
            raise UsageError(
                f"The scores of '{name}' must be over the {spec.num_classes} classes of the spec. "
                f"Received: {sorted(lengths)}"
            )
    return splits, matrices


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


def _cards(splits: Mapping[str, Mapping[str, Any]], spec: Spec) -> str:
    """Return the headline numbers of each split; with two classes also the second one's IoU."""
    cards = []
    for split, values in splits.items():
        chosen = {label: values[key] for key, label in _CARDS.items() if values.get(key) is not None}
        if spec.num_classes == 2 and values.get("iou") is not None:
            chosen = {f"IoU of {spec.classes[1]}": values["iou"][1], **chosen}
        cards += [
            f'<div class="card"><b>{percent(value)}</b><span>{escape(label)}, {escape(split)}</span></div>'
            for label, value in chosen.items()
        ]
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


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
