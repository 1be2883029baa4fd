"""`kseg check-data`: is this data set fit for training, and what is in it?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kseg.errors import UsageError
from kseg.text import printable

if TYPE_CHECKING:
    from kseg.data.checking.report import Finding, Report

HELP = "Check a data set: unreadable files, sizes, ids, colour masks, class shares, suggested weights."
EXAMPLE = "kseg check-data path/to/data --json"
_MARKS = {"error": "[red]error[/red]", "warning": "[yellow]warning[/yellow]", "info": "[dim]info[/dim]"}
_MOST_CLASSES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", metavar="DIR", help="data folder, tfds:NAME or sample:NAME")
    parser.add_argument("--palette", metavar="FILE", help="colours of masks: JSON, CSV, `R G B NAME` lines")
    parser.add_argument("--id-map", metavar="JSON", help="ids to replace, for example '{\"255\": 1}'")
    parser.add_argument("--limit", type=int, metavar="N", help="read at most N images per split")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return 1 when training would be wrong."""
    from kseg.data import check
    from kseg.output import closing_line, print_json, progress

    if args.limit is not None and args.limit < 1:
        raise UsageError(f"Argument --limit must be at least 1. Received: {args.limit}")
    report = check(
        args.data,
        palette=args.palette,
        id_map=parse_id_map(args.id_map),
        limit=args.limit,
        progress=progress,
    )
    if args.json:
        print_json(report.to_dict())
    else:
        _print(report)
        if report.ok:
            closing_line(_next(args, report))
    return 0 if report.ok else 1


def _next(args: argparse.Namespace, report: Report) -> str:
    if args.palette is None and args.id_map is None:
        model = "stardist" if any(split.instances for split in report.splits.values()) else "lraspp"
        return f"kseg train --model {model} --data {printable(args.data)} --out RUN"
    # What was true of the data with these arguments is true of a training only where it reads them too.
    return "write the palette (with color_masks) or the id_map into classes.json, where kseg train reads it"


def parse_id_map(text: str | None) -> dict[int, int] | None:
    """Read `{"old": new, ...}`.

    Raises:
        UsageError: if it is not JSON of that form.
    """
    if text is None:
        return None
    from kseg import records
    from kseg.data.sources.classes_file import IdMap

    remedy = "Write for example '{\"255\": 1}'"
    return records.parse(text, IdMap, where="Argument --id-map", error=UsageError, remedy=remedy)


def _print(report: Report) -> None:
    from rich.markup import escape

    from kseg.output import console

    console.print(
        f"[bold]{escape(printable(report.path))}[/bold] ({report.kind}, {len(report.classes)} classes)"
    )
    if report.splits:
        _print_splits(report)
        _print_classes(report)
    for finding in report.findings:
        _print_finding(finding)
    errors = sum(finding.severity == "error" for finding in report.findings)
    if errors:
        console.print(f"[red]not fit for training[/red]: {errors} error{'s' if errors > 1 else ''}")
    else:
        console.print("[green]fit for training[/green]")


def _print_splits(report: Report) -> None:
    from rich.table import Table

    from kseg.output import console

    table = Table("split", box=None, pad_edge=False)
    for name in ("images", "sizes (HxW)", "void"):
        table.add_column(name, justify="right")
    with_instances = any(split.instances is not None for split in report.splits.values())
    if with_instances:
        table.add_column("instances", justify="right")
    for name, split in report.splits.items():
        size = split.size_summary()
        shown = "-"
        if split.sizes:
            small, large = (f"{size[key][0]}x{size[key][1]}" for key in ("smallest", "largest"))
            shown = small if small == large else f"{small} - {large}"
        row = [printable(name), str(split.images), shown, f"{split.counts.void_share():.2%}"]
        table.add_row(*row, *([str(split.instances or 0)] if with_instances else []))
    console.print(table)


def _print_classes(report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    from kseg.output import console

    weights = report.weights()
    table = Table("id", box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in report.splits:
        table.add_column(f"{printable(name)} %", justify="right")
    for scheme in weights:
        table.add_column(scheme.replace("_", "\n"), justify="right", style="dim", no_wrap=True)
    shares = [split.counts.shares() * 100 for split in report.splits.values()]
    for index, name in enumerate(report.classes[:_MOST_CLASSES]):
        cells = [f"{share[index]:.2f}" if share[index] else "[red]-[/red]" for share in shares]
        table.add_row(
            str(index), escape(printable(name, 60)), *cells, *(f"{weights[s][index]:.3f}" for s in weights)
        )
    console.print(table)
    if len(report.classes) > _MOST_CLASSES:
        console.print(f"... and {len(report.classes) - _MOST_CLASSES} more classes (see --json)", style="dim")


def _print_finding(finding: Finding) -> None:
    from rich.markup import escape

    from kseg.output import console

    console.print(f"{_MARKS[finding.severity]} {escape(finding.message)}", soft_wrap=True)
    for file in finding.files:
        console.print(f"    {escape(printable(file))}", style="dim", soft_wrap=True)
    if finding.count > len(finding.files):
        console.print(f"    ... and {finding.count - len(finding.files)} more", style="dim")
    if finding.fix:
        console.print(f"    do: {escape(finding.fix)}", soft_wrap=True)
